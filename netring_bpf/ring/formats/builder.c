/* Writes numbers, times and addresses as text: see builder.h. */
#include "formats/builder.h"

#define NS 1000000000u
#define DAY 86400u
#define MAX_COUNT (((uint64_t)1 << 53) - 1)

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

char *nr_put_count(char *at, uint64_t value) {
    return nr_put_u64(at, value < MAX_COUNT ? value : MAX_COUNT);
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

/* -- times -- */

static char *put_pair(char *at, uint64_t value) {
    return nr_put(at, &pairs[value * 2], 2);
}

/* Writes the date of a day since 1970, by years that begin in March (Hinnant, "chrono-compatible
 * low-level date algorithms"). */
static char *put_date(char *at, uint64_t day) {
    const uint64_t since = day + 719468; /* 0000-03-01 */
    const uint64_t era = since / 146097, of_era = since % 146097;
    const uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    const uint64_t month = (5 * of_year + 2) / 153; /* 0: March */
    at = nr_put_padded(at, era * 400 + year + (month >= 10), 4);
    at = put_pair(NR_PUT(at, "-"), month < 10 ? month + 3 : month - 9);
    return put_pair(NR_PUT(at, "-"), of_year - (153 * month + 2) / 5 + 1);
}

void nr_seconds_clear(struct nr_seconds *seconds) {
    memset(seconds, UINT8_MAX, sizeof *seconds); /* no second has this number */
}

static char *put_second(char *at, struct nr_seconds *seconds, uint64_t second) {
    const size_t n = second % (sizeof seconds->slot / sizeof seconds->slot[0]);
    char *text = seconds->slot[n].text;
    if (seconds->slot[n].second != second) {
        char *end = put_date(text, second / DAY);
        end = put_pair(NR_PUT(end, "T"), second % DAY / 3600);
        end = put_pair(NR_PUT(end, ":"), second % 3600 / 60);
        put_pair(NR_PUT(end, ":"), second % 60);
        seconds->slot[n].second = second;
    }
    return nr_put(at, text, NR_SECOND_SIZE);
}

char *nr_put_time(char *at, struct nr_seconds *seconds, uint64_t ns) {
    const uint32_t of_second = (uint32_t)(ns % NS);
    at = put_second(at, seconds, ns / NS);
    *at++ = '.';
    at = put_pair(at, of_second / 10000000);
    at = put_pair(at, of_second / 100000 % 100);
    at = put_pair(at, of_second / 1000 % 100);
    at = put_pair(at, of_second / 10 % 100);
    *at++ = (char)('0' + of_second % 10);
    *at++ = 'Z';
    return at;
}

char *nr_put_time_micros(char *at, struct nr_seconds *seconds, uint64_t ns) {
    const uint32_t micros = (uint32_t)(ns % NS) / 1000;
    at = put_second(at, seconds, ns / NS);
    *at++ = '.';
    at = put_pair(at, micros / 10000);
    at = put_pair(at, micros / 100 % 100);
    at = put_pair(at, micros % 100);
    return NR_PUT(at, "+0000");
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

char *nr_put_hex_byte(char *at, uint8_t value) {
    *at++ = hex[value >> 4];
    *at++ = hex[value & 15];
    return at;
}

static char *put_mac(char *at, const uint8_t *address) {
    for (int i = 0; i < 6; i++) {
        at = nr_put_hex_byte(at, address[i]);
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

char *nr_put_ipv6_expanded(char *at, const uint8_t *address) {
    for (int i = 0; i < 16; i += 2) {
        at = nr_put_hex_byte(nr_put_hex_byte(at, address[i]), address[i + 1]);
        *at++ = ':';
    }
    return at - 1;
}

char *nr_put_address(char *at, uint8_t family, const uint8_t *address) {
    if (family == 4) {
        return put_ipv4(at, address);
    }
    return family == 6 ? put_ipv6(at, address) : put_mac(at, address);
}
