/* The text of a DNS answer. */
#ifndef NR_APP_DNS_TEXT_H
#define NR_APP_DNS_TEXT_H

#include "app/dns_name.h"

/* Types of DNS records. */
enum {
    NR_DNS_A = 1,
    NR_DNS_NS = 2,
    NR_DNS_CNAME = 5,
    NR_DNS_SOA = 6,
    NR_DNS_WKS = 11,
    NR_DNS_PTR = 12,
    NR_DNS_HINFO = 13,
    NR_DNS_MX = 15,
    NR_DNS_TXT = 16,
    NR_DNS_AAAA = 28,
    NR_DNS_LOC = 29,
    NR_DNS_NB = 32,
    NR_DNS_SRV = 33,
    NR_DNS_NAPTR = 35,
    NR_DNS_DNAME = 39,
    NR_DNS_OPT = 41,
    NR_DNS_DS = 43,
    NR_DNS_SSHFP = 44,
    NR_DNS_RRSIG = 46,
    NR_DNS_NSEC = 47,
    NR_DNS_DNSKEY = 48,
    NR_DNS_NSEC3 = 50,
    NR_DNS_NSEC3PARAM = 51,
    NR_DNS_SVCB = 64,
    NR_DNS_HTTPS = 65,
    NR_DNS_SPF = 99,
    NR_DNS_TKEY = 249,
    NR_DNS_TSIG = 250,
    NR_DNS_CAA = 257,
    NR_DNS_BIND9 = 65534
};

/* A record of a message: the places of its parts. */
struct nr_dns_record {
    uint32_t owner;
    uint32_t data;
    uint32_t next; /* behind the data */
    uint32_t ttl;
    uint16_t type;
};

/* Adds the text of a record's data. Returns false if the data are malformed. */
bool nr_put_dns_data(struct nr_labels_text *text, const struct nr_labels *message,
                     const struct nr_dns_record *record);

#endif
