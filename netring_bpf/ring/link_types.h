/* The link layers that the dissector reads, and the LINKTYPE_ numbers that name them in capture
 * files (tcpdump.org/linktypes.html). */
#ifndef NR_LINK_TYPES_H
#define NR_LINK_TYPES_H

#include <stdint.h>

enum nr_link {
    NR_LINK_ETHERNET,
    NR_LINK_RAW,   /* IPv4 or IPv6, told by the version field */
    NR_LINK_TYPED, /* no header: the frame names its ethertype */
    NR_LINK_LLC,   /* LLC with a SNAP header */
    NR_LINK_NULL,
    NR_LINK_COOKED,
    NR_LINK_COOKED2,
    NR_LINK_PPP, /* or Cisco HDLC, told by the first bytes */
    NR_LINK_PPP_DIRECTED,
    NR_LINK_PPP_PPPD,
    NR_LINK_PPPOE,
    NR_LINK_CHDLC,
    NR_LINK_CHDLC_DIRECTED,
    NR_LINK_FRAME_RELAY,
    NR_LINK_FRAME_RELAY_DIRECTED,
    NR_LINK_MPLS,
    NR_LINK_80211,
    NR_LINK_80211_SWAPPED, /* the two bytes of the frame control are exchanged */
    NR_LINK_SUBFRAMES,     /* the frames of an 802.11 aggregate */
    NR_LINK_RADIOTAP,
    NR_LINK_PRISM,
    NR_LINK_AVS,
    NR_LINK_PPI,
    NR_LINK_PKTAP,
    NR_LINK_NFLOG,
    NR_LINK_PFLOG,
    NR_LINK_ENC,
    NR_LINK_SLIP,
    NR_LINK_IPNET,
    NR_LINK_IPOIB,
    NR_LINK_FDDI,
    NR_LINK_IP_OVER_FC,
    NR_LINK_FIREWIRE,
    NR_LINK_NETANALYZER,
    NR_LINK_NETANALYZER_TRANSPARENT,
    NR_LINK_EPON,
    NR_LINK_DSA, /* a switch's tag between the addresses and the ethertype */
    NR_LINK_EDSA,
    NR_LINK_DSA_PREPENDED,
    NR_LINK_UNKNOWN,
    NR_LINK_COUNT
};

/* Returns the link layer of a LINKTYPE_; NR_LINK_UNKNOWN for those that are not read. */
uint16_t nr_link_layer(uint32_t linktype);

#endif
