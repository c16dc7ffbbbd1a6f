/* The ports of FlowOptions.tunnel_ports, for programs that make options without Python. */
#ifndef TEST_TUNNEL_PORTS_H
#define TEST_TUNNEL_PORTS_H

/* Two members of nr_decode_options. */
#define TUNNEL_PORTS                                                                               \
    .tunnel_port_count = 12,                                                                       \
    .tunnel_ports = {                                                                              \
        {.port = 4789, .kind = NR_TUNNEL_VXLAN},     {.port = 8472, .kind = NR_TUNNEL_VXLAN},      \
        {.port = 4790, .kind = NR_TUNNEL_VXLAN_GPE}, {.port = 6081, .kind = NR_TUNNEL_GENEVE},     \
        {.port = 2152, .kind = NR_TUNNEL_GTPU},      {.port = 4754, .kind = NR_TUNNEL_GRE},        \
        {.port = 6635, .kind = NR_TUNNEL_MPLS},      {.port = 1701, .kind = NR_TUNNEL_L2TP},       \
        {.port = 5247, .kind = NR_TUNNEL_CAPWAP},    {.port = 4341, .kind = NR_TUNNEL_LISP},       \
        {.port = 3544, .kind = NR_TUNNEL_TEREDO},    {.port = 5072, .kind = NR_TUNNEL_AYIYA},      \
    }

#endif
