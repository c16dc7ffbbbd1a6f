import asyncio

import netring_bpf as nr


async def main() -> None:
    async with nr.Netring("eth1", filter="tcp port 443") as ring:
        print(ring.backend, ring.attach, ring.fallback_reason)
        async for event in ring.subscribe():
            match event:
                case nr.FlowEnded(flow=flow):
                    print(flow.key, flow.history, flow.orig.bytes, flow.resp.bytes)
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events")


asyncio.run(main())
