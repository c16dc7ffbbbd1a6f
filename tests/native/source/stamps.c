/* Reads blocks of TPACKET_V3 that this program fills itself, on clocks that it sets itself. */
#include "source/tpacket.c"

#include <stdio.h>

enum { BLOCK = 4096, BLOCKS = 4, HOUR = 3600 };
#define NS 1000000000ll
#define BEGIN (1800000000ll * NS) /* the wall clock at the start */

static int64_t monotonic = 1000 * NS, lead = BEGIN - 1000 * NS;

int clock_gettime(clockid_t id, struct timespec *now) {
    const int64_t ns = id == CLOCK_REALTIME ? monotonic + lead : monotonic;
    now->tv_sec = ns / NS;
    now->tv_nsec = ns % NS;
    return 0;
}

static uint8_t ring[BLOCK * BLOCKS] __attribute__((aligned(8)));
static struct nr_clock flow_clock;
static struct tpacket source;

static void begin(void) {
    flow_clock = (struct nr_clock){
        .offset = nr_wall_offset(), .wall = nr_wall_offset(), .is_used = true};
    source = (struct tpacket){
        .source = {.ops = &tpacket_ops, .clock = &flow_clock},
        .map = ring,
        .map_size = sizeof ring,
        .block_size = BLOCK,
        .block_count = BLOCKS,
        .stamp_offset = nr_wall_offset(),
        .latest = nr_monotonic_ns(),
    };
}

/* Puts one frame into the block: stamped `ago` ns before now, by a clock that is off by `step`. */
static void put_frame(uint32_t number, int64_t ago, int64_t step, uint32_t count) {
    uint8_t *block = ring + (size_t)source.block * BLOCK;
    struct tpacket3_hdr *hdr = (void *)(block + 128 + (size_t)number * 128);
    const int64_t stamp = monotonic - ago + lead + step;
    struct tpacket_block_desc *desc = (void *)block;
    *hdr = (struct tpacket3_hdr){
        .tp_next_offset = 128,
        .tp_sec = (uint32_t)(stamp / NS),
        .tp_nsec = (uint32_t)(stamp % NS),
        .tp_mac = 64,
        .tp_snaplen = 60,
        .tp_len = 60,
    };
    desc->hdr.bh1.offset_to_first_pkt = 128;
    desc->hdr.bh1.num_pkts = count;
    desc->hdr.bh1.block_status = TP_STATUS_USER;
}

/* Prints how long ago the frames of the block came, in ms of flow time. */
static void print_block(const char *name) {
    struct nr_frame frames[8];
    const uint32_t count = tpacket_next(&source.source, frames, 8);
    printf("%s:", name);
    for (uint32_t i = 0; i < count; i++) {
        const int64_t now = (int64_t)nr_flow_time(&flow_clock, nr_monotonic_ns());
        printf(" %lld", (long long)((now - (int64_t)frames[i].ts) / 1000000));
    }
    puts("");
    tpacket_release(&source.source);
}

static void pass(int64_t ms) {
    monotonic += ms * 1000000;
}

static void step_wall(int64_t seconds) {
    lead += seconds * NS;
}

/* Blocks before, across and after a step. */
static void run_step(const char *name, int64_t seconds) {
    begin();
    puts(name);
    pass(1000);
    put_frame(0, 30000000, 0, 2);
    put_frame(1, 20000000, 0, 2);
    print_block("before");
    pass(1000);
    step_wall(seconds);
    put_frame(0, 50000000, -seconds * NS, 3); /* stamped before the step */
    put_frame(1, 40000000, 0, 3);
    put_frame(2, 20000000, 0, 3);
    print_block("across");
    pass(1000);
    put_frame(0, 10000000, 0, 1);
    print_block("after");
}

int main(void) {
    run_step("forward", HOUR);
    run_step("back", -HOUR);
    run_step("little", 2);

    /* Only this process has another wall clock, as with a library that is put in between. */
    begin();
    puts("own");
    pass(1000);
    step_wall(HOUR);
    put_frame(0, 10000000, -HOUR * NS, 1);
    print_block("first");
    pass(1000);
    put_frame(0, 10000000, -HOUR * NS, 1);
    print_block("second");

    /* Raw packets keep the kernel's stamp. */
    begin();
    flow_clock.is_used = false;
    puts("raw");
    pass(1000);
    step_wall(HOUR);
    put_frame(0, 10000000, 0, 1);
    print_block("stamped");

    /* Flow time follows the wall clock by 500 us a second. */
    begin();
    step_wall(HOUR);
    const int64_t before = flow_clock.offset;
    for (int i = 0; i < 10; i++) {
        pass(100);
        nr_clock_slew(&flow_clock, 100000000);
    }
    printf("slewed %lld us\n", (long long)((flow_clock.offset - before) / 1000));
    step_wall(-HOUR);
    for (int i = 0; i < 20; i++) {
        pass(100);
        nr_clock_slew(&flow_clock, 100000000);
    }
    printf("settled %lld us\n", (long long)((flow_clock.offset - before) / 1000));
    printf("%llu steps\n", (unsigned long long)flow_clock.steps);
    return 0;
}
