/* The text of DNS answers: as in the column `answers` of Zeek's dns.log, except for the types that
 * Zeek leaves out (HINFO, CAA, SVCB, HTTPS) and for DNAME.
 *
 * Formats: RFC 1035, 2782 (SRV), 3403 (NAPTR), 1876 (LOC), 4255 (SSHFP), 4034 and 5155 (DNSSEC),
 * 8659 (CAA), 9460 (SVCB and HTTPS). */
#include "app/dns_text.h"
#include "dissect/cursor.h"

enum { SVCB_ALPN = 1 };
enum { LOC_SIZE = 16, RRSIG_HEAD = 18, SSHFP_HEAD = 2, DS_HEAD = 4, NAPTR_HEAD = 4, SVCB_HEAD = 2 };

static void put_string(struct nr_labels_text *text, const char *string) {
    nr_put_bytes(text, string, (uint32_t)strlen(string));
}

static void put_number(struct nr_labels_text *text, uint32_t value) {
    char digits[10];
    uint32_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    nr_put_bytes(text, digits + at, (uint32_t)sizeof digits - at);
}

static void put_hex(struct nr_labels_text *text, const uint8_t *bytes, uint32_t length) {
    static const char digits[] = "0123456789abcdef";
    for (uint32_t i = 0; i < length; i++) {
        const char two[] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
        nr_put_bytes(text, two, sizeof two);
    }
}

/* Adds a name that must end within the data. */
static bool put_name(struct nr_labels_text *text, const struct nr_labels *message,
                     const struct nr_dns_record *record, uint32_t skipped) {
    if (record->next - record->data <= skipped) {
        return false;
    }
    const uint32_t end = nr_put_name(text, message, record->data + skipped);
    return end != 0 && end <= record->next;
}

/* Adds a name in lower case, as a part of other text. */
static bool put_folded_name(struct nr_labels_text *text, const struct nr_labels *message,
                            const struct nr_dns_record *record, uint32_t skipped) {
    const uint32_t begin = text->length;
    const bool is_name = put_name(text, message, record, skipped);
    for (uint32_t i = begin; i < text->length; i++) {
        const uint8_t c = text->bytes[i];
        text->bytes[i] = c >= 'A' && c <= 'Z' ? c + 32 : c;
    }
    return is_name;
}

/* Adds the string of a length byte at *at, and moves *at behind it. */
static bool put_counted(struct nr_labels_text *text, const uint8_t *bytes, uint32_t size,
                        uint32_t *at) {
    if (*at >= size || bytes[*at] > size - *at - 1) {
        return false;
    }
    nr_put_bytes(text, bytes + *at + 1, bytes[*at]);
    *at += bytes[*at] + 1u;
    return true;
}

static bool put_strings(struct nr_labels_text *text, const uint8_t *data, uint32_t size,
                        const char *kind) {
    uint32_t at = 0;
    bool is_whole = size > 0;
    while (is_whole && at < size) {
        put_string(text, at == 0 ? "" : " ");
        put_string(text, kind);
        put_number(text, data[at]);
        put_string(text, " ");
        is_whole = put_counted(text, data, size, &at);
    }
    return is_whole;
}

static bool put_hinfo(struct nr_labels_text *text, const uint8_t *data, uint32_t size) {
    uint32_t at = 0;
    if (!put_counted(text, data, size, &at)) {
        return false;
    }
    put_string(text, " ");
    return put_counted(text, data, size, &at);
}

static bool put_naptr(struct nr_labels_text *text, const struct nr_labels *message,
                      const struct nr_dns_record *record, const uint8_t *data, uint32_t size) {
    uint32_t at = NAPTR_HEAD;
    if (size < NAPTR_HEAD) {
        return false;
    }
    put_string(text, "NAPTR ");
    put_number(text, nr_be16(data));
    put_string(text, " ");
    put_number(text, nr_be16(data + 2));
    uint32_t begin = 0;
    for (int i = 0; i < 3; i++) { /* flags, services, expression */
        put_string(text, " ");
        begin = text->length;
        if (!put_counted(text, data, size, &at)) {
            return false;
        }
    }
    const uint32_t end = text->length;
    put_string(text, end > begin ? " " : "");
    const uint32_t before = text->length;
    const bool is_name = put_name(text, message, record, at);
    if (text->length == before) { /* no replacement, no blank */
        text->length = end;
    }
    return is_name;
}

static bool put_caa(struct nr_labels_text *text, const uint8_t *data, uint32_t size) {
    uint32_t at = 1;
    if (size < 2) {
        return false;
    }
    put_number(text, data[0]);
    put_string(text, " ");
    if (!put_counted(text, data, size, &at)) {
        return false;
    }
    put_string(text, " ");
    nr_put_bytes(text, data + at, size - at);
    return true;
}

static bool put_alpn(struct nr_labels_text *text, const uint8_t *value, uint32_t size) {
    uint32_t at = 0;
    while (at < size) {
        put_string(text, at == 0 ? " alpn=" : ",");
        if (!put_counted(text, value, size, &at)) {
            return false;
        }
    }
    return true;
}

/* Adds the priority, the target, and the protocols; other parameters are left out. */
static bool put_svcb(struct nr_labels_text *text, const struct nr_labels *message,
                     const struct nr_dns_record *record) {
    if (record->next - record->data <= SVCB_HEAD) {
        return false;
    }
    put_number(text, nr_be16(message->at + record->data));
    put_string(text, " ");
    const uint32_t before = text->length;
    uint32_t at = nr_put_name(text, message, record->data + SVCB_HEAD);
    if (at == 0 || at > record->next) {
        return false;
    }
    put_string(text, text->length == before ? "." : "");
    while (record->next - at >= 4) {
        const uint16_t key = nr_be16(message->at + at);
        const uint16_t size = nr_be16(message->at + at + 2);
        at += 4;
        if (size > record->next - at ||
            (key == SVCB_ALPN && !put_alpn(text, message->at + at, size))) {
            return false;
        }
        at += size;
    }
    return at == record->next;
}

static bool put_loc(struct nr_labels_text *text, const uint8_t *data, uint32_t size) {
    if (size != LOC_SIZE) {
        return false;
    }
    put_string(text, "LOC:  ");
    put_number(text, data[1]);
    put_string(text, " ");
    put_number(text, data[2]);
    put_string(text, " ");
    put_number(text, data[3]);
    return true;
}

static bool put_sshfp(struct nr_labels_text *text, const uint8_t *data, uint32_t size) {
    if (size < SSHFP_HEAD) {
        return false;
    }
    put_string(text, "SSHFP: ");
    put_hex(text, data + SSHFP_HEAD, size - SSHFP_HEAD);
    return true;
}

static bool put_ds(struct nr_labels_text *text, const uint8_t *data, uint32_t size) {
    if (size < DS_HEAD) {
        return false;
    }
    put_string(text, "DS ");
    put_number(text, data[2]);
    put_string(text, " ");
    put_number(text, data[3]);
    return true;
}

static bool put_dnskey(struct nr_labels_text *text, const uint8_t *data, uint32_t size) {
    if (size < DS_HEAD) {
        return false;
    }
    put_string(text, "DNSKEY ");
    put_number(text, data[3]);
    return true;
}

static bool put_rrsig(struct nr_labels_text *text, const struct nr_labels *message,
                      const struct nr_dns_record *record) {
    if (record->next - record->data < RRSIG_HEAD) {
        return false;
    }
    put_string(text, "RRSIG ");
    put_number(text, nr_be16(message->at + record->data));
    put_string(text, " ");
    const uint32_t before = text->length;
    const bool is_name = put_folded_name(text, message, record, RRSIG_HEAD);
    put_string(text, text->length == before ? "<Root>" : "");
    return is_name;
}

static bool put_nsec(struct nr_labels_text *text, const struct nr_labels *message,
                     const struct nr_dns_record *record) {
    struct nr_dns_record owner = {.data = record->owner, .next = record->data};
    put_string(text, "NSEC ");
    if (!put_folded_name(text, message, &owner, 0)) {
        return false;
    }
    put_string(text, " ");
    return put_folded_name(text, message, record, 0);
}

static bool put_unknown(struct nr_labels_text *text, uint16_t type) {
    put_string(text, "<unknown type=");
    put_number(text, type);
    put_string(text, ">");
    return true;
}

static bool put_constant(struct nr_labels_text *text, const char *string) {
    put_string(text, string);
    return true;
}

bool nr_put_dns_data(struct nr_labels_text *text, const struct nr_labels *message,
                     const struct nr_dns_record *record) {
    const uint8_t *data = message->at + record->data;
    const uint32_t size = record->next - record->data;
    switch (record->type) {
    case NR_DNS_NS:
    case NR_DNS_CNAME:
    case NR_DNS_SOA:
    case NR_DNS_PTR:
    case NR_DNS_DNAME:
        return put_name(text, message, record, 0);
    case NR_DNS_MX:
        return put_name(text, message, record, 2);
    case NR_DNS_SRV:
        return put_name(text, message, record, 6);
    case NR_DNS_HINFO:
        return put_hinfo(text, data, size);
    case NR_DNS_TXT:
        return put_strings(text, data, size, "TXT ");
    case NR_DNS_SPF:
        return put_strings(text, data, size, "SPF ");
    case NR_DNS_NAPTR:
        return put_naptr(text, message, record, data, size);
    case NR_DNS_LOC:
        return put_loc(text, data, size);
    case NR_DNS_SSHFP:
        return put_sshfp(text, data, size);
    case NR_DNS_DS:
        return put_ds(text, data, size);
    case NR_DNS_RRSIG:
        return put_rrsig(text, message, record);
    case NR_DNS_NSEC:
        return put_nsec(text, message, record);
    case NR_DNS_DNSKEY:
        return put_dnskey(text, data, size);
    case NR_DNS_NSEC3:
        return put_constant(text, "NSEC3");
    case NR_DNS_NSEC3PARAM:
        return put_constant(text, "NSEC3PARAM");
    case NR_DNS_SVCB:
    case NR_DNS_HTTPS:
        return put_svcb(text, message, record);
    case NR_DNS_CAA:
        return put_caa(text, data, size);
    case NR_DNS_BIND9:
        return put_constant(text, "BIND9 signing signal");
    default:
        return put_unknown(text, record->type);
    }
}
