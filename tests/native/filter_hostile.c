/* Runs random programs of classic BPF and of lookups in sets on random frames. A program that
 * passes the check must stay within its bounds and end. Frames and sets lie in memory of exactly
 * their size. Arguments: seed, programs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

static uint64_t state;

static uint32_t draw(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static const uint16_t codes[] = {
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14, 0x15, 0x16, 0x1c,
    0x1d, 0x20, 0x24, 0x25, 0x28, 0x2c, 0x2d, 0x30, 0x34, 0x35, 0x3c, 0x3d, 0x40,
    0x44, 0x45, 0x48, 0x4c, 0x4d, 0x50, 0x54, 0x5c, 0x60, 0x61, 0x64, 0x6c, 0x74,
    0x7c, 0x80, 0x81, 0x84, 0x87, 0x94, 0x9c, 0xa4, 0xac, 0xb1, 0x55, 0x65, 0x6d,
};
#define CODES (sizeof codes / sizeof codes[0])

static uint32_t draw_constant(void) {
    switch (draw(5)) {
    case 0:
        return draw(16);
    case 1:
        return draw(80);
    case 2:
        return 0xfffff000u + draw(64);
    case 3:
        return 0u - draw(8);
    default:
        return draw(0xffffffffu);
    }
}

enum { SETS = 3, RANGES = 4 };

/* Ranges of random numbers: a search ends in those that are not sorted, too. */
static void make_set(nr_address_set *set, uint8_t *ranges) {
    set->v4_count = draw(RANGES);
    set->v6_count = draw(RANGES);
    set->v4 = (const nr_range4 *)ranges;
    set->v6 = (const nr_range6 *)(ranges + RANGES * sizeof(nr_range4));
    for (size_t i = 0; i < RANGES * (sizeof(nr_range4) + sizeof(nr_range6)); i++) {
        ranges[i] = (uint8_t)draw(draw(2) ? 256 : 2);
    }
}

static uint32_t make_program(nr_bpf_insn *insns) {
    const uint32_t count = 1 + draw(40);
    for (uint32_t i = 0; i < count; i++) {
        insns[i] = (nr_bpf_insn){
            .code = draw(200) == 0 ? (uint16_t)draw(0x10000) : codes[draw(CODES)],
            .jt = (uint8_t)draw(draw(4) == 0 ? 256 : count - i),
            .jf = (uint8_t)draw(draw(4) == 0 ? 256 : count - i),
            .k = draw_constant(),
        };
        if (insns[i].code == NR_FILTER_IN4 && draw(10) != 0) {
            insns[i].k = draw(SETS);
        }
        if ((insns[i].code == NR_FILTER_IN6 || insns[i].code == NR_FILTER_IN6_X) && draw(10) != 0) {
            insns[i].k = draw(SETS) << 24 | draw(90);
        }
        if (insns[i].code == 0x05) {
            insns[i].k = draw(30) == 0 ? 0u - draw(i + 2) : draw(count - i);
        }
    }
    insns[count - 1].code = draw(50) == 0 ? 0x00 : 0x06;
    return count;
}

int main(int argc, char **argv) {
    uint64_t run = 0, accepted = 0;
    nr_bpf_insn insns[41];
    nr_address_set sets[SETS];
    if (argc != 3) {
        return 2;
    }
    state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
    for (long left = strtol(argv[2], NULL, 10); left > 0; left--) {
        const nr_filter_program random = {insns, sets, make_program(insns), SETS};
        if (nr_filter_check(&random) != 0) {
            continue;
        }
        const uint32_t count = random.count;
        run++;
        /* The sanitizer sees a run past the end of an allocation of exactly the program's size. */
        nr_bpf_insn *exact = malloc(count * sizeof *exact);
        const uint32_t caplen = draw(70);
        uint8_t *data = malloc(caplen + (caplen == 0));
        uint8_t *ranges = malloc(SETS * RANGES * (sizeof(nr_range4) + sizeof(nr_range6)));
        if (exact == NULL || data == NULL || ranges == NULL) {
            return 1;
        }
        for (uint32_t i = 0; i < SETS; i++) {
            make_set(&sets[i], ranges + i * RANGES * (sizeof(nr_range4) + sizeof(nr_range6)));
        }
        memcpy(exact, insns, count * sizeof *exact);
        for (uint32_t i = 0; i < caplen; i++) {
            data[i] = (uint8_t)draw(256);
        }
        const nr_filter_frame frame = {
            .data = data,
            .caplen = caplen,
            .len = caplen + draw(100),
            .vlan_tci = (uint16_t)draw(0x10000),
            .vlan_tpid = draw(2) ? 0x8100 : 0,
            .live = draw(2),
        };
        const nr_filter_program program = {exact, sets, count, SETS};
        accepted += nr_filter_run(&program, &frame) != 0;
        free(ranges);
        free(data);
        free(exact);
    }
    printf("%llu %llu\n", (unsigned long long)run, (unsigned long long)accepted);
    return 0;
}
