/* The table of LINKTYPE_ numbers. */
#include "link_types.h"

#include <stddef.h>

static const struct {
    uint16_t linktype;
    uint8_t link;
} TYPES[] = {
    {1, NR_LINK_ETHERNET},
    {12, NR_LINK_RAW},
    {14, NR_LINK_RAW},
    {101, NR_LINK_RAW},
    {228, NR_LINK_RAW},
    {229, NR_LINK_RAW},
    {0, NR_LINK_NULL},
    {108, NR_LINK_NULL},
    {113, NR_LINK_COOKED},
    {276, NR_LINK_COOKED2},
    {9, NR_LINK_PPP},
    {50, NR_LINK_PPP},
    {204, NR_LINK_PPP_DIRECTED},
    {166, NR_LINK_PPP_PPPD},
    {51, NR_LINK_PPPOE},
    {104, NR_LINK_CHDLC},
    {112, NR_LINK_CHDLC},
    {205, NR_LINK_CHDLC_DIRECTED},
    {107, NR_LINK_FRAME_RELAY},
    {206, NR_LINK_FRAME_RELAY_DIRECTED},
    {219, NR_LINK_MPLS},
    {105, NR_LINK_80211},
    {127, NR_LINK_RADIOTAP},
    {119, NR_LINK_PRISM},
    {163, NR_LINK_AVS},
    {192, NR_LINK_PPI},
    {258, NR_LINK_PKTAP},
    {239, NR_LINK_NFLOG},
    {117, NR_LINK_PFLOG},
    {109, NR_LINK_ENC},
    {8, NR_LINK_SLIP},
    {226, NR_LINK_IPNET},
    {242, NR_LINK_IPOIB},
    {10, NR_LINK_FDDI},
    {100, NR_LINK_LLC},
    {122, NR_LINK_IP_OVER_FC},
    {138, NR_LINK_FIREWIRE},
    {240, NR_LINK_NETANALYZER},
    {241, NR_LINK_NETANALYZER_TRANSPARENT},
    {259, NR_LINK_EPON},
    {281, NR_LINK_DSA},
    {284, NR_LINK_DSA},
    {285, NR_LINK_EDSA},
    {282, NR_LINK_DSA_PREPENDED},
};

uint16_t nr_link_layer(uint32_t linktype) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        if (TYPES[i].linktype == linktype) {
            return TYPES[i].link;
        }
    }
    return NR_LINK_UNKNOWN;
}
