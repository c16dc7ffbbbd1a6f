/* Runs classic BPF on bytes, for capture files, Filter.matches() and the comparison of filter
 * engines. It also looks addresses up in sets, which classic BPF cannot.
 *
 * It behaves as libpcap's own interpreter (bpf_filter(3PCAP)): a load outside the captured bytes or
 * a division by zero rejects the frame, and a shift by 32 or more gives 0. A program is checked
 * once; a checked program stays within its bounds, and ends. */
#include <errno.h>
#include <linux/filter.h>
#include <stddef.h>
#include <string.h>

#include "core.h"

#define AUXILIARY 0x80000000u /* offsets from here on name the kernel's data about a packet */
/* `protochain` jumps backwards, once per header, and each header has at least two bytes. */
#define MAX_STEPS (1u << 21)
#define SET_AT 24
#define OFFSET ((1u << SET_AT) - 1)

/* -- check -- */

static bool jump_is_inside(const nr_bpf_insn *insn, uint32_t at, uint32_t count) {
    const uint64_t next = (uint64_t)at + 1;
    if (BPF_OP(insn->code) == BPF_JA) {
        const int64_t target = (int64_t)next + (int32_t)insn->k;
        return target >= 0 && target < (int64_t)count;
    }
    return next + insn->jt < count && next + insn->jf < count;
}

static bool is_known(uint16_t code) {
    switch (code) {
    case BPF_LD | BPF_W | BPF_ABS:
    case BPF_LD | BPF_H | BPF_ABS:
    case BPF_LD | BPF_B | BPF_ABS:
    case BPF_LD | BPF_W | BPF_IND:
    case BPF_LD | BPF_H | BPF_IND:
    case BPF_LD | BPF_B | BPF_IND:
    case BPF_LD | BPF_IMM:
    case BPF_LD | BPF_MEM:
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_IMM:
    case BPF_LDX | BPF_MEM:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_B | BPF_MSH:
    case BPF_ST:
    case BPF_STX:
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
    case BPF_ALU | BPF_NEG:
    case BPF_JMP | BPF_JA:
        return true;
    default:
        break;
    }
    const uint16_t operation = BPF_OP(code);
    if ((code & ~(0xf0 | BPF_X)) == BPF_ALU) {
        return operation <= BPF_XOR && operation != BPF_NEG;
    }
    if ((code & ~(0xf0 | BPF_X)) == BPF_JMP) {
        return operation >= BPF_JEQ && operation <= BPF_JSET;
    }
    return false;
}

static bool asks_a_set(uint16_t code) {
    return code == NR_FILTER_IN4 || code == NR_FILTER_IN6 || code == NR_FILTER_IN6_X;
}

static uint32_t set_number(const nr_bpf_insn *insn) {
    return insn->code == NR_FILTER_IN4 ? insn->k : insn->k >> SET_AT;
}

static bool uses_scratch(uint16_t code) {
    return code == BPF_ST || code == BPF_STX || code == (BPF_LD | BPF_MEM) ||
           code == (BPF_LDX | BPF_MEM);
}

int nr_filter_check(const nr_filter_program *program) {
    const nr_bpf_insn *insns = program->insns;
    const uint32_t count = program->count;
    if (count == 0 || BPF_CLASS(insns[count - 1].code) != BPF_RET) {
        return -EINVAL;
    }
    for (uint32_t at = 0; at < count; at++) {
        const nr_bpf_insn *insn = &insns[at];
        if (asks_a_set(insn->code)) {
            if (set_number(insn) >= program->set_count || !jump_is_inside(insn, at, count)) {
                return -EINVAL;
            }
            continue;
        }
        if (!is_known(insn->code) || (uses_scratch(insn->code) && insn->k >= BPF_MEMWORDS) ||
            (BPF_CLASS(insn->code) == BPF_JMP && !jump_is_inside(insn, at, count))) {
            return -EINVAL;
        }
    }
    return 0;
}

/* -- run -- */

struct machine {
    const nr_filter_program *program;
    const nr_filter_frame *frame;
    uint32_t a;
    uint32_t x;
    uint32_t scratch[BPF_MEMWORDS];
};

/* Loads the kernel's data about a packet, besides its bytes: only its outer tag is supported. */
static bool load_auxiliary(const nr_filter_frame *frame, uint32_t k, uint32_t *value) {
    if (!frame->live) {
        return false;
    }
    switch ((int32_t)(k - (uint32_t)SKF_AD_OFF)) {
    case SKF_AD_VLAN_TAG:
        *value = frame->vlan_tci;
        return true;
    case SKF_AD_VLAN_TAG_PRESENT:
        *value = frame->vlan_tpid != 0;
        return true;
    case SKF_AD_VLAN_TPID:
        *value = frame->vlan_tpid;
        return true;
    default:
        return false;
    }
}

static bool load_bytes(const nr_filter_frame *frame, uint64_t offset, uint32_t size,
                       uint32_t *value) {
    if (offset + size > frame->caplen) {
        return false;
    }
    const uint8_t *at = frame->data + offset;
    uint32_t result = 0;
    for (uint32_t i = 0; i < size; i++) {
        result = result << 8 | at[i];
    }
    *value = result;
    return true;
}

static uint32_t load_size(uint16_t code) {
    return BPF_SIZE(code) == BPF_W ? 4 : BPF_SIZE(code) == BPF_H ? 2 : 1;
}

static bool load_a(struct machine *m, const nr_bpf_insn *insn) {
    switch (BPF_MODE(insn->code)) {
    case BPF_IMM:
        m->a = insn->k;
        return true;
    case BPF_MEM:
        m->a = m->scratch[insn->k];
        return true;
    case BPF_LEN:
        m->a = m->frame->len;
        return true;
    case BPF_ABS:
        if (insn->k >= AUXILIARY) {
            return load_auxiliary(m->frame, insn->k, &m->a);
        }
        return load_bytes(m->frame, insn->k, load_size(insn->code), &m->a);
    default:
        return load_bytes(m->frame, (uint64_t)m->x + insn->k, load_size(insn->code), &m->a);
    }
}

static bool load_x(struct machine *m, const nr_bpf_insn *insn) {
    uint32_t byte;
    switch (BPF_MODE(insn->code)) {
    case BPF_IMM:
        m->x = insn->k;
        return true;
    case BPF_MEM:
        m->x = m->scratch[insn->k];
        return true;
    case BPF_LEN:
        m->x = m->frame->len;
        return true;
    default:
        if (!load_bytes(m->frame, insn->k, 1, &byte)) {
            return false;
        }
        m->x = (byte & 0xf) << 2;
        return true;
    }
}

static bool do_arithmetic(struct machine *m, const nr_bpf_insn *insn) {
    const uint32_t operand = BPF_SRC(insn->code) == BPF_X ? m->x : insn->k;
    switch (BPF_OP(insn->code)) {
    case BPF_ADD:
        m->a += operand;
        return true;
    case BPF_SUB:
        m->a -= operand;
        return true;
    case BPF_MUL:
        m->a *= operand;
        return true;
    case BPF_DIV:
        if (operand == 0) {
            return false;
        }
        m->a /= operand;
        return true;
    case BPF_MOD:
        if (operand == 0) {
            return false;
        }
        m->a %= operand;
        return true;
    case BPF_AND:
        m->a &= operand;
        return true;
    case BPF_OR:
        m->a |= operand;
        return true;
    case BPF_XOR:
        m->a ^= operand;
        return true;
    case BPF_LSH:
        m->a = operand < 32 ? m->a << operand : 0;
        return true;
    case BPF_RSH:
        m->a = operand < 32 ? m->a >> operand : 0;
        return true;
    default: /* BPF_NEG */
        m->a = 0 - m->a;
        return true;
    }
}

/* -- sets: binary search for the last range that does not begin behind the address -- */

static bool has4(const nr_address_set *set, uint32_t address) {
    uint32_t low = 0, high = set->v4_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (set->v4[middle].first <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && address <= set->v4[low - 1].last;
}

static bool is_at_most(const uint64_t *one, const uint64_t *other) {
    return one[0] < other[0] || (one[0] == other[0] && one[1] <= other[1]);
}

static bool has6(const nr_address_set *set, const uint64_t *address) {
    uint32_t low = 0, high = set->v6_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (is_at_most(set->v6[middle].first, address)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && is_at_most(address, set->v6[low - 1].last);
}

/* Returns false if the address is not in the frame. */
static bool ask_set(const struct machine *m, const nr_bpf_insn *insn, bool *has) {
    const nr_address_set *set = &m->program->sets[set_number(insn)];
    uint64_t halves[2];
    if (insn->code == NR_FILTER_IN4) {
        *has = has4(set, m->a);
        return true;
    }
    const uint64_t base = insn->code == NR_FILTER_IN6_X ? m->x : 0;
    const uint64_t offset = base + (insn->k & OFFSET);
    if (offset + sizeof halves > m->frame->caplen) {
        return false;
    }
    memcpy(halves, m->frame->data + offset, sizeof halves);
    halves[0] = __builtin_bswap64(halves[0]);
    halves[1] = __builtin_bswap64(halves[1]);
    *has = has6(set, halves);
    return true;
}

static int64_t jump_distance(const struct machine *m, const nr_bpf_insn *insn) {
    const uint32_t operand = BPF_SRC(insn->code) == BPF_X ? m->x : insn->k;
    bool holds;
    switch (BPF_OP(insn->code)) {
    case BPF_JA:
        return (int32_t)insn->k;
    case BPF_JEQ:
        holds = m->a == operand;
        break;
    case BPF_JGT:
        holds = m->a > operand;
        break;
    case BPF_JGE:
        holds = m->a >= operand;
        break;
    default:
        holds = (m->a & operand) != 0;
        break;
    }
    return holds ? insn->jt : insn->jf;
}

int nr_filter_try(const nr_filter_program *program, const nr_filter_frame *frame,
                  uint32_t *result) {
    struct machine m = {.program = program, .frame = frame};
    const nr_bpf_insn *insn = program->insns;
    *result = 0;
    for (uint32_t steps = 0; steps < MAX_STEPS; steps++, insn++) {
        bool valid = true;
        switch (BPF_CLASS(insn->code)) {
        case BPF_LD:
            valid = load_a(&m, insn);
            break;
        case BPF_LDX:
            valid = load_x(&m, insn);
            break;
        case BPF_ST:
            m.scratch[insn->k] = m.a;
            break;
        case BPF_STX:
            m.scratch[insn->k] = m.x;
            break;
        case BPF_ALU:
            valid = do_arithmetic(&m, insn);
            break;
        case BPF_JMP:
            if (asks_a_set(insn->code)) {
                bool has = false;
                valid = ask_set(&m, insn, &has);
                insn += has ? insn->jt : insn->jf;
            } else {
                insn += jump_distance(&m, insn);
            }
            break;
        case BPF_RET:
            *result = BPF_RVAL(insn->code) == BPF_A ? m.a : insn->k;
            return 1;
        default:
            if (BPF_MISCOP(insn->code) == BPF_TAX) {
                m.x = m.a;
            } else {
                m.a = m.x;
            }
            break;
        }
        if (!valid) {
            return 0;
        }
    }
    return 1;
}

uint32_t nr_filter_run(const nr_filter_program *program, const nr_filter_frame *frame) {
    uint32_t result;
    (void)nr_filter_try(program, frame, &result);
    return result;
}
