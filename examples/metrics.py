"""Serve metrics of your own beside those of the capture: metrics.py eth1 127.0.0.1:9560 9561.

The sink serves all counters of the capture at the address. The program serves a counter of its own
on the port behind it: answers of DNS by their code. It ends at SIGINT and SIGTERM. It needs
``netring-bpf[metrics]``.
"""

import asyncio
import signal
import sys

from prometheus_client import CollectorRegistry, Counter, start_http_server

import netring_bpf as nr

CODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")


async def main(interface: str, address: str, port: int) -> None:
    registry = CollectorRegistry()
    answers = Counter("dns_answers", "Answers of DNS.", ["code"], registry=registry)
    server, thread = start_http_server(port, "127.0.0.1", registry=registry)
    loop = asyncio.get_running_loop()
    async with nr.Netring(interface, sinks=[nr.MetricsSink(address)]) as ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        print("serving metrics of", interface, flush=True)
        async for event in ring.subscribe(kinds=nr.AppEvent):
            match event:
                case nr.AppEvent(app=nr.App(details=nr.DnsDetails(rcode=str(code)))):
                    # A label's values must not grow with the traffic.
                    answers.labels(code if code in CODES else "other").inc()
                case nr.SinkFailed(error=error):
                    print(error, file=sys.stderr)
    server.shutdown()
    thread.join()
    server.server_close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
