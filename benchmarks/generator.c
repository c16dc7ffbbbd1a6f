/* Makes traffic in the kernel: rewrites the frame it gets into the next one of a load, and sends it
 * out of an interface. live_frames.py runs it on live frames (BPF_PROG_TEST_RUN).
 *
 * The kernel gives the frames back as they were sent, so every packet writes all that it needs. BCC
 * compiles it without kernel headers. live_frames.py defines SIZE, CONTROL, COUNT, FLOWS, PER_FLOW,
 * INTERVAL, GROUP, PORT, HEADER_SUM, OUT, and for some loads IPV6, TCP or STAMP. */

struct state {
    u64 sent;
    u64 first, last; /* times by CLOCK_MONOTONIC */
    u64 next;        /* when the next frame is due, in 1/256 ns */
    u32 index;       /* flows served in this round: each is served once a round */
    u32 flow;
    u32 round;
    u32 step; /* packets that each flow of this generation sent before this round */
    u32 generation;
    u32 strides[8]; /* of eight rounds in turn, so that no order comes back soon */
};
BPF_ARRAY(states, struct state, 1);

#define BURST (1000000ull << 8) /* 1 ms: frames missed before that are not made up for */

#ifdef IPV6
#define NETWORK 40
#else
#define NETWORK 20
#endif
#define TRANSPORT (14 + NETWORK)

/* Names a flow by its number: 24 bits go into 10.x.x.x, the rest into the other address. */
#ifdef IPV6
#define NAME(id) (id)
#else
#define NAME(id) ((id) >> 24 << 32 | 0x0a000000u | ((id)&0xffffffu))
#endif

enum { FIN = 0x01, SYN = 0x02, PSH = 0x08, ACK = 0x10 };

static __always_inline u64 advance(struct state *s) {
    u64 id = (u64)s->generation * FLOWS + s->flow;
    s->sent++;
    s->index++;
    s->flow += s->strides[s->round & 7];
    if (s->flow >= FLOWS) {
        s->flow -= FLOWS;
    }
    if (s->index == FLOWS) {
        s->index = s->flow = 0;
        s->round++;
        s->step++;
        if (s->step == PER_FLOW) {
            s->step = 0;
            s->generation++;
        }
    }
    return id;
}

/* Writes the addresses of both ends, from the flow's number or from the time. */
static __always_inline void write_addresses(u8 *data, u64 name, int back) {
#ifdef IPV6
    u64 *at = (u64 *)(data + 22);
    u64 high = __builtin_bswap64(0xfd00000000000000ull);
    at[back ? 2 : 0] = high;
    at[back ? 3 : 1] = __builtin_bswap64(name);
    at[back ? 0 : 2] = high | __builtin_bswap64(1);
    at[back ? 1 : 3] = __builtin_bswap64(1);
#else
    u32 orig = (u32)name, resp = 0x0b000000u | ((u32)(name >> 32) & 0xffffffu);
    u32 *at = (u32 *)(data + 26);
    at[back ? 1 : 0] = bpf_htonl(orig);
    at[back ? 0 : 1] = bpf_htonl(resp);
    u32 length = bpf_ntohs(*(u16 *)(data + 16));
    u32 sum = HEADER_SUM + length + (orig >> 16) + (orig & 0xffff) + (resp >> 16) + (resp & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    *(u16 *)(data + 24) = bpf_htons(~sum & 0xffff);
#endif
}

static __always_inline void write_ports(u8 *data, u64 id, int back) {
    u16 *at = (u16 *)(data + TRANSPORT);
    at[back ? 1 : 0] = bpf_htons(0x8000 | (id & 0x7fff));
    at[back ? 0 : 1] = bpf_htons(PORT);
}

static __always_inline void write_stations(u8 *data, int back) {
    data[5] = back ? 0x0a : 0x0b;
    data[11] = back ? 0x0b : 0x0a;
}

#ifdef TCP
#define PAYLOAD (SIZE - TRANSPORT - 20)
#define DATA_END (1 + (PER_FLOW - 6) * PAYLOAD)

/* Writes packet `step` of a connection: SYN, SYN+ACK, ACK, the originator's data, FIN+ACK, FIN+ACK,
 * ACK. Returns true if there is no payload. */
static __always_inline int write_tcp(u8 *data, u32 step) {
    u32 seq = 1 + (step - 3) * PAYLOAD, ack = 1;
    u8 flags = PSH | ACK;
    int control = step < 3 || step >= PER_FLOW - 3;
    if (step == 0) {
        flags = SYN, seq = 0, ack = 0;
    } else if (step == 1) {
        flags = SYN | ACK, seq = 0;
    } else if (step == 2) {
        flags = ACK, seq = 1;
    } else if (step == PER_FLOW - 3) {
        flags = FIN | ACK;
    } else if (step == PER_FLOW - 2) {
        flags = FIN | ACK, seq = 1, ack = DATA_END + 1;
    } else if (step == PER_FLOW - 1) {
        flags = ACK, seq = DATA_END + 1, ack = 2;
    }
    u8 *tcp = data + TRANSPORT;
    *(u32 *)(tcp + 4) = bpf_htonl(seq);
    *(u32 *)(tcp + 8) = bpf_htonl(ack);
    tcp[13] = flags;
    u32 length = 20 + (control ? 0 : PAYLOAD);
#ifdef IPV6
    *(u16 *)(data + 18) = bpf_htons(length);
#else
    *(u16 *)(data + 16) = bpf_htons(NETWORK + length);
#endif
    return control;
}
#endif

/* Returns true if the next frame, or GROUP of frames, is due, and advances the schedule. */
static __always_inline int is_due(struct state *s, u64 now) {
    now <<= 8;
    if (s->sent == 0) {
        s->next = now;
    }
    if (now < s->next) {
        return 0;
    }
    s->next = (now - s->next > BURST ? now - BURST : s->next) + INTERVAL;
    return 1;
}

int generate(struct xdp_md *ctx) {
    u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
    u32 zero = 0, step;
    u64 id, now = 0;
    int back = 0, control = 0;
    struct state *s = states.lookup(&zero);
    if (!s || data + SIZE > end || s->sent >= COUNT) {
        return XDP_DROP;
    }
    /* The clock is slow, so it is read only where it is needed. */
#ifdef STAMP
    now = bpf_ktime_get_ns();
#endif
#if INTERVAL > 0
    if (s->sent % GROUP == 0) {
        now = now ? now : bpf_ktime_get_ns();
        if (!is_due(s, now)) {
            return XDP_DROP;
        }
    }
#endif
    if ((s->sent & 1023) == 0 || s->sent == COUNT - 1) {
        s->last = now ? now : bpf_ktime_get_ns();
        if (s->sent == 0) {
            s->first = s->last;
        }
    }
    step = s->step;
    id = advance(s);
#ifdef TCP
    back = step == 1 || step == PER_FLOW - 2;
    control = write_tcp(data, step);
    write_stations(data, back);
#endif
#ifdef STAMP
    id = id % STAMP == 0 ? id : 0;
    write_addresses(data, id || s->sent == 1 ? now : NAME(0ull), 0);
#else
    write_addresses(data, NAME(id), back);
#endif
    write_ports(data, id, back);
    if (control && SIZE > CONTROL && bpf_xdp_adjust_tail(ctx, (int)CONTROL - (int)SIZE)) {
        return XDP_ABORTED;
    }
    return bpf_redirect(OUT, 0);
}
