/* Writes numbers and addresses as text: see builder.h. */
#include "formats/builder.h"

#define NS 1000000000u

/* -- numbers -- */

static const char pairs[] = "0001020304050607080910111213141516171819"
                            "2021222324252627282930313233343536373839"
                            "4041424344454647484950515253545556575859"
                            "6061626364656667686970717273747576777879"
                            "8081828384858687888990919293949596979899";

char *nr_put_u64(char *at, uint64_t value) {
    char digits[20];
    char *first = digits + sizeof digits;
    while (value >= 100) {
        first -= 2;
        memcpy(first, &pairs[value % 100 * 2], 2);
        value /= 100;
    }
    if (value >= 10) {
        first -= 2;
        memcpy(first, &pairs[value * 2], 2);
    } else {
        *--first = (char)('0' + value);
    }
    return nr_put(at, first, (size_t)(digits + sizeof digits - first));
}

char *nr_put_padded(char *at, uint64_t value, unsigned digits) {
    for (unsigned i = digits; i > 0; i--) {
        at[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + digits;
}

/* -- seconds -- */

static char *drop_zeros(char *end) {
    while (end[-1] == '0') {
        end--;
    }
    return end;
}

/* Returns mantissa / 2^shift, a double below 2^53, times ten_to_decimals, rounded to the nearest
 * integer, ties to even. */
static uint64_t scale_rounded(uint64_t mantissa, unsigned shift, uint64_t ten_to_decimals) {
    const unsigned __int128 product = (unsigned __int128)mantissa * ten_to_decimals;
    const unsigned __int128 half = (unsigned __int128)1 << (shift - 1);
    const unsigned __int128 rest = product & (half * 2 - 1);
    const uint64_t whole = (uint64_t)(product >> shift);
    return whole + (rest > half || (rest == half && whole & 1));
}

/* Splits a positive double (IEEE 754, 52 bits after the leading one) into mantissa and shift. */
static uint64_t split_double(double value, unsigned *shift) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    *shift = 1075 - (unsigned)(bits >> 52);
    return (bits & (((uint64_t)1 << 52) - 1)) | (uint64_t)1 << 52;
}

/* Writes the fewest decimals whose number is nearer to this double than to its neighbours. From 11
 * days on, a double cannot tell every nanosecond from the next. */
static char *put_shortest(char *at, double value) {
    unsigned shift;
    const uint64_t mantissa = split_double(value, &shift);
    uint64_t power = 1;
    for (unsigned decimals = 0; decimals <= 9; decimals++, power *= 10) {
        const uint64_t candidate = scale_rounded(mantissa, shift, power);
        const unsigned __int128 exact = (unsigned __int128)mantissa * power;
        const unsigned __int128 there = (unsigned __int128)candidate << shift;
        const unsigned __int128 off = there > exact ? there - exact : exact - there;
        if (off * 2 < power || (off * 2 == power && mantissa % 2 == 0)) {
            at = nr_put_u64(at, candidate / power);
            at = NR_PUT(at, ".");
            return nr_put_padded(at, candidate % power, decimals > 0 ? decimals : 1);
        }
    }
    return at; /* not reached: nine decimals tell any two apart */
}

/* Writes less than a ten-thousandth of a second in powers of ten, as Python does. */
static char *put_tiny(char *at, uint64_t ns) {
    uint64_t power = 1;
    unsigned exponent = 9;
    while (ns / power >= 10) {
        power *= 10;
        exponent--;
    }
    at = nr_put_u64(at, ns / power);
    if (ns % power != 0) {
        at = NR_PUT(at, ".");
        at = drop_zeros(nr_put_padded(at, ns % power, 9 - exponent));
    }
    at = NR_PUT(at, "e-");
    return nr_put_padded(at, exponent, 2);
}

char *nr_put_seconds(char *at, uint64_t ns) {
    if (ns >= 1000000ull * NS) {
        return put_shortest(at, (double)ns / 1e9);
    }
    if (ns > 0 && ns < 100000) {
        return put_tiny(at, ns);
    }
    /* At most 15 digits: no shorter number is the same double. */
    at = nr_put_u64(at, ns / NS);
    at = NR_PUT(at, ".");
    char *end = drop_zeros(nr_put_padded(at, ns % NS, 9));
    return end > at ? end : NR_PUT(at, "0");
}

char *nr_put_seconds_rounded(char *at, uint64_t ns) {
    unsigned shift;
    const uint64_t mantissa = split_double((double)ns / 1e9, &shift);
    const uint64_t micros = scale_rounded(mantissa, shift, 1000000);
    at = nr_put_u64(at, micros / 1000000);
    at = NR_PUT(at, ".");
    return nr_put_padded(at, micros % 1000000, 6);
}

/* -- addresses -- */

static char *put_ipv4(char *at, const uint8_t *address) {
    for (int i = 0; i < 4; i++) {
        at = nr_put_u64(at, address[i]);
        at = NR_PUT(at, ".");
    }
    return at - 1;
}

static const char hex[] = "0123456789abcdef";

static char *put_mac(char *at, const uint8_t *address) {
    for (int i = 0; i < 6; i++) {
        *at++ = hex[address[i] >> 4];
        *at++ = hex[address[i] & 15];
        *at++ = ':';
    }
    return at - 1;
}

static char *put_group(char *at, unsigned value) {
    for (int shift = 12; shift >= 0; shift -= 4) {
        if (value >> shift || shift == 0) {
            *at++ = hex[value >> shift & 15];
        }
    }
    return at;
}

/* Returns the longest run of zero groups, the first of equals; -1: none. A run has at least two
 * groups. */
static int longest_run(const unsigned *groups, int *length) {
    int best = -1;
    *length = 1;
    for (int i = 0; i < 8; i++) {
        int end = i;
        while (end < 8 && groups[end] == 0) {
            end++;
        }
        if (end - i > *length) {
            best = i;
            *length = end - i;
        }
        i = end > i ? end - 1 : i;
    }
    return best;
}

static char *put_ipv6(char *at, const uint8_t *address) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    unsigned groups[8];
    int length;
    if (memcmp(address, mapped, sizeof mapped) == 0) {
        at = NR_PUT(at, "::ffff:");
        return put_ipv4(at, address + 12);
    }
    for (int i = 0; i < 8; i++) {
        groups[i] = (unsigned)address[2 * i] << 8 | address[2 * i + 1];
    }
    const int run = longest_run(groups, &length);
    for (int i = 0; i < 8; i++) {
        if (i == run) {
            at = NR_PUT(at, "::");
            i += length - 1;
            continue;
        }
        if (i > 0 && i != run + length) {
            *at++ = ':';
        }
        at = put_group(at, groups[i]);
    }
    return at;
}

char *nr_put_address(char *at, uint8_t family, const uint8_t *address) {
    if (family == 4) {
        return put_ipv4(at, address);
    }
    return family == 6 ? put_ipv6(at, address) : put_mac(at, address);
}
