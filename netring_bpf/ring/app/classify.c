/* The parsers, in the order in which they look at the first bytes of a side. Those that cannot err
 * come first. */
#include "app/driver.h"

const struct nr_app_row nr_stream_rows[] = {
    {.parse = nr_tls_parse},   {.parse = nr_http_parse, .resyncs = true},
    {.parse = nr_ssh_parse},   {.parse = nr_starttls_parse},
    {.parse = nr_mqtt_parse},  {.parse = nr_dns_parse},
    {.parse = nr_label_parse},
};
const uint32_t nr_stream_row_count = sizeof nr_stream_rows / sizeof *nr_stream_rows;

const struct nr_app_row nr_datagram_rows[] = {
    {.read = nr_app_quic},      {.read = nr_app_dtls},        {.parse = nr_dhcp_parse},
    {.parse = nr_dhcpv6_parse}, {.parse = nr_netbios_parse},  {.parse = nr_dns_parse},
    {.parse = nr_ssdp_parse},   {.parse = nr_starttls_parse}, {.parse = nr_label_parse},
};
const uint32_t nr_datagram_row_count = sizeof nr_datagram_rows / sizeof *nr_datagram_rows;
