/* The interface between C and Python.
 *
 * This file is both a C header (core.h includes it and carries its guard) and the cdef of
 * _build.py, so nothing is declared twice. Functions that can fail return -errno.
 * Integers are in host byte order; addresses are in network byte order. */

/* Values of nr_event.kind. */
#define NR_EVENT_STARTED 1
#define NR_EVENT_ESTABLISHED 2
#define NR_EVENT_UPDATED 3
#define NR_EVENT_ENDED 4
#define NR_EVENT_APP 5       /* an exchange of the protocol inside a flow */
#define NR_EVENT_NEIGHBOUR 6 /* ARP or NDP: orig_h is the address of orig_mac; it has no flow */

/* Values of nr_event.how: who told that an address is at a station. */
#define NR_HOW_ARP_REQUEST 1   /* the sender of a question, about itself */
#define NR_HOW_ARP_REPLY 2     /* the sender of an answer */
#define NR_HOW_ARP_ANNOUNCED 3 /* a station that nobody has asked */
#define NR_HOW_NDP_SOLICITED 4 /* the sender of a neighbour or router solicitation */
#define NR_HOW_NDP_ADVERTISED 5
#define NR_HOW_ROUTER 6 /* the sender of a router advertisement */
#define NR_HOW_PREFIX 7 /* orig_h is a prefix of the link's addresses; a router advertises it */

/* Values of nr_event.end_reason; indexes into nr_statistics.flows_ended. */
#define NR_END_NONE 0
#define NR_END_FIN 1
#define NR_END_RST 2
#define NR_END_IDLE 3
#define NR_END_EVICTED 4
#define NR_END_SHUTDOWN 5
#define NR_END_ACTIVE 6
#define NR_END_REUSED 7
#define NR_END_COUNT 8

/* Reasons why a frame has no flow (0: it has one), or why only a part of it was read; indexes into
 * nr_statistics.not_keyed and partly_read. */
#define NR_KEYED 0
#define NR_CUT_LINK 1      /* captured bytes end inside the link header, a tag or a label */
#define NR_NOT_IP 2        /* another ethertype: ARP, LLDP, 802.3 length, ... */
#define NR_TOO_MANY_TAGS 3 /* more than 8 VLAN tags and MPLS labels */
#define NR_CUT_NETWORK 4   /* captured bytes end inside an IP header */
#define NR_BAD_NETWORK 5   /* invalid IP version, header length or total length */
#define NR_FRAGMENT 6      /* an IP fragment without ports, whose first was not seen */
#define NR_TOO_MANY_EXT 7  /* more than 16 IPv6 extension headers */
#define NR_CUT_TRANSPORT 8 /* captured bytes end inside the transport header */
#define NR_BAD_TRANSPORT 9 /* invalid length of the transport header or of the datagram */
#define NR_BAD_CHECKSUM 10 /* wrong IPv4 header checksum, where checksums are verified */
#define NR_UNKNOWN_LINK 11 /* unknown link layer, or one without the MAC addresses of the key */
#define NR_SLICED 12       /* shorter than the IP length, as a mirror slices it */
#define NR_REASON_COUNT 13

/* Tunnels that the dissector opens. */
#define NR_TUNNEL_IP 1
#define NR_TUNNEL_GRE 2
#define NR_TUNNEL_ERSPAN 3
#define NR_TUNNEL_VXLAN 4
#define NR_TUNNEL_GENEVE 5
#define NR_TUNNEL_GTPU 6
#define NR_TUNNEL_TEREDO 7
#define NR_TUNNEL_AYIYA 8
#define NR_TUNNEL_VXLAN_GPE 9
#define NR_TUNNEL_MPLS 10
#define NR_TUNNEL_ETHERIP 11
#define NR_TUNNEL_L2TP 12
#define NR_TUNNEL_CAPWAP 13
#define NR_TUNNEL_LISP 14

/* Flow keys: the fields that the packets of one flow share. */
#define NR_KEY_FIVE_TUPLE 0
#define NR_KEY_HOST_PAIR 1
#define NR_KEY_MAC_PAIR 2

/* Protocols inside flows, as their content tells: nr_event.app_protocol. */
#define NR_APP_NONE 0 /* none was recognised */
#define NR_APP_TLS 1
#define NR_APP_DTLS 2
#define NR_APP_QUIC 3
#define NR_APP_HTTP 4 /* version 1 */
#define NR_APP_HTTP2 5
#define NR_APP_DNS 6
#define NR_APP_MDNS 7
#define NR_APP_LLMNR 8
#define NR_APP_NETBIOS 9 /* its name service */
#define NR_APP_DHCP 10
#define NR_APP_DHCPV6 11
#define NR_APP_SSDP 12
#define NR_APP_SSH 13
#define NR_APP_MQTT 14
#define NR_APP_NTP 15
#define NR_APP_RDP 16
#define NR_APP_SMB 17
#define NR_APP_BITTORRENT 18
#define NR_APP_WIREGUARD 19
#define NR_APP_STUN 20
#define NR_APP_RTP 21
#define NR_APP_SMTP 22
#define NR_APP_IMAP 23
#define NR_APP_POP3 24
#define NR_APP_FTP 25
#define NR_APP_LDAP 26
#define NR_APP_XMPP 27
#define NR_APP_POSTGRESQL 28
#define NR_APP_MYSQL 29
#define NR_APP_COUNT 30

/* Fields of an application record. A record is a row of fields without padding, each
 *     { u8 field; u8 0; u16 length; `length` bytes }
 * in host byte order. Numbers are a u32. Text is as it was sent, and at most NR_TEXT_MAX bytes. A
 * field may come several times where that is said. */
#define NR_FIELD_CUT 1         /* number: 1, the record has not all that was sent */
#define NR_FIELD_CARRIER 2     /* number: NR_APP_*, the protocol that handed over to TLS */
#define NR_FIELD_VERSION 3     /* number: TLS, DTLS and QUIC as on the wire; HTTP, SSH: major << 8 |
                                  minor; MQTT: its level; the chosen one, if an answer was seen */
#define NR_FIELD_ALERT 8       /* number: the alert that a server sent in place of its hello */
#define NR_FIELD_SESSION_ID 9  /* bytes: the session that a client wants to take up, by its ID;
                                  empty: by a ticket alone. For comparison only */
#define NR_FIELD_SERVER_NAME 10 /* text: of the client's hello */
#define NR_FIELD_ALPN_OFFERED 11 /* text, several */
#define NR_FIELD_ALPN 12         /* text: the chosen one */
#define NR_FIELD_CIPHER 13       /* number: the chosen suite */
#define NR_FIELD_RESUMED 14      /* number: 1 */
#define NR_FIELD_ECH 15          /* number: 1, the server name is the outer one */
#define NR_FIELD_JA4 16          /* text */
#define NR_FIELD_JA3 17          /* text: MD5 in hexadecimal */
#define NR_FIELD_GROUP 18        /* number: the chosen key exchange group */
#define NR_FIELD_CLIENT_VERSION 19 /* number: the highest that the client offered */
#define NR_FIELD_METHOD 20       /* text */
#define NR_FIELD_HOST 21         /* text */
#define NR_FIELD_PATH 22         /* text */
#define NR_FIELD_STATUS 23       /* number */
#define NR_FIELD_USER_AGENT 24   /* text */
#define NR_FIELD_CONTENT_TYPE 25 /* text: of the answer */
#define NR_FIELD_REASON 26       /* text: the words behind the status */
#define NR_FIELD_QUERY 30        /* text: the name that is asked for, in dots, as sent */
#define NR_FIELD_QUERY_TYPE 31   /* number */
#define NR_FIELD_QUERY_CLASS 32  /* number */
#define NR_FIELD_RCODE 33        /* number */
#define NR_FIELD_ID 34           /* number: of the transaction */
#define NR_FIELD_DNS_FLAGS 35    /* number: the second word of the header, of the answer if seen */
#define NR_FIELD_ANSWER 36 /* several: { u32 ttl; u16 type; u8 chained; u8 n; n bytes: the owner's name;
                              then A, AAAA: the address; others: text, at most 1024 bytes }.
                              chained: the owner is the name asked for, or an alias of it that
                              another answer gave */
#define NR_FIELD_ADDITIONAL 37 /* number: so many of the last answers are additional records */
#define NR_FIELD_MAC 40            /* 6 bytes: the client */
#define NR_FIELD_HOST_NAME 41      /* text */
#define NR_FIELD_VENDOR_CLASS 42   /* text */
#define NR_FIELD_ASSIGNED 43       /* 4 or 16 bytes, several: an address given */
#define NR_FIELD_MESSAGE_TYPE 44   /* number, several: in the order they came */
#define NR_FIELD_SERVER 45         /* 4 or 16 bytes */
#define NR_FIELD_ROUTER 46         /* 4 or 16 bytes, several */
#define NR_FIELD_PREFIX_LENGTH 47  /* number */
#define NR_FIELD_CLIENT_FQDN 48    /* text */
#define NR_FIELD_REQUESTED 49      /* 4 bytes */
#define NR_FIELD_DOMAIN 50         /* text */
#define NR_FIELD_LEASE 51          /* number: seconds */
#define NR_FIELD_CLIENT_SOFTWARE 60 /* text: the banner, without the line's end */
#define NR_FIELD_SERVER_SOFTWARE 61 /* text */
#define NR_FIELD_CLIENT_ID 62       /* text */
#define NR_FIELD_SERVICE 63         /* text: NT or ST of SSDP */
#define NR_FIELD_LOCATION 64        /* text */
#define NR_FIELD_SUFFIX 65          /* number: the last byte of a NetBIOS name */
#define NR_FIELD_RESP_NAME 70       /* text: the name that the originator asked for */
#define NR_FIELD_RESP_NAME_FROM 71  /* number: NR_APP_*, who told it */
#define NR_FIELD_ASKED_TS 72        /* 8 bytes: u64, ns; when the question came that was answered,
                                       or never was; ALONE messages have none */
#define NR_TEXT_MAX 256

/* Values of nr_flow_options.names. */
#define NR_NAMES_OFF 0     /* no byte of payload is looked at */
#define NR_NAMES_SERVICE 1 /* the protocol alone */
#define NR_NAMES_ALL 2

/* Reasons why something that a flow said inside was not read, or not told; indexes into
 * nr_statistics.names_missed. */
#define NR_MISSED_TOO_LONG 0    /* a message is longer than what is held of a flow */
#define NR_MISSED_POOL_FULL 1   /* no memory was left for bytes that wait */
#define NR_MISSED_CUT 2         /* a segment or datagram was not captured whole */
#define NR_MISSED_GAP 3         /* bytes of a stream were not captured */
#define NR_MISSED_STORE_FULL 4  /* no memory was left for the record of a flow or question */
#define NR_MISSED_LEFT_OUT 5    /* an exchange without event: too many of the flow, or at once */
#define NR_MISSED_HANDOFF_FULL 6 /* an event without its record: the consumer is late */
#define NR_MISSED_NOT_OPENED 7  /* an Initial of QUIC that no key opened, or over the budget */
#define NR_MISSED_NOT_PRINTED 8 /* a hello without its fingerprints, over the budget */
#define NR_MISSED_COUNT 9

/* States of one side of a TCP connection: the endpoint states of Zeek. */
#define NR_STATE_INACTIVE 0
#define NR_STATE_SYN_SENT 1
#define NR_STATE_SYN_ACK_SENT 2
#define NR_STATE_PARTIAL 3
#define NR_STATE_ESTABLISHED 4
#define NR_STATE_CLOSED 5
#define NR_STATE_RESET 6

#define NR_NO_VLAN 65535
#define NR_HISTORY_SIZE 40
#define NR_MAX_PORT_TIMEOUTS 16
#define NR_MAX_FIRST_PACKETS 32
#define NR_MAX_TUNNEL_PORTS 32
#define NR_MAX_FLOWS 67108864
#define NR_MAX_SOURCES 64
#define NR_ID_BITS 51 /* of the first flow's id: ids stay below 2^53, which JSON's readers need */

/* One side of a flow, as an event reports it. */
typedef struct {
    uint64_t packets;
    uint64_t bytes;    /* whole frames, as on the wire */
    uint64_t ip_bytes; /* IP packets, headers included */
    uint64_t payload;  /* transport payload; TCP: by sequence numbers */
    uint64_t first_ts; /* 0: this side sent nothing */
    uint64_t last_ts;
    uint64_t rtt_ns;        /* between the capture and this side, from the handshake; 0: unknown */
    uint64_t missing_bytes; /* acknowledged but never seen */
    uint32_t retransmitted; /* segments without new bytes */
    uint32_t out_of_order;  /* segments that came after later ones */
    uint32_t gaps;
    uint32_t zero_windows;
    uint32_t bad_checksums; /* packets counted, but not otherwise used */
    uint32_t implausible;   /* segments whose numbers cannot be right */
    uint8_t tcp_state;
    uint8_t tcp_flags; /* of all its segments, or'ed */
    uint8_t fin_acked; /* its FIN was acknowledged */
    uint8_t reserved;
    uint32_t fragments; /* packets with a part of a datagram, but one of each that was whole */
} nr_event_side;

/* One flow event, as the reader's thread hands it to Python. In the hand-off, two
 * nr_packet_statistics and the nr_first_packet records follow it, if the options ask for them. */
typedef struct {
    uint64_t ts; /* ns; never decreases within one reader */
    uint64_t flow_id;
    uint64_t start_ts;
    uint64_t parent_id; /* the flow of the tunnel around this one; 0: none */
    nr_event_side orig;
    nr_event_side resp;
    uint8_t orig_h[16]; /* IPv4 in the first four bytes, a MAC address in the first six */
    uint8_t resp_h[16];
    uint8_t tunnel_orig_h[16];
    uint8_t tunnel_resp_h[16];
    uint16_t tunnel_orig_p;
    uint16_t tunnel_resp_p;
    uint32_t tunnel_id;
    uint16_t orig_p;
    uint16_t resp_p;
    uint16_t vlan[2]; /* ids, outermost first; NR_NO_VLAN: none */
    uint16_t icmp_id;
    uint8_t family; /* 4 or 6; 0: MAC addresses */
    uint8_t proto;
    uint8_t kind;
    uint8_t end_reason;
    uint8_t tunnel_kind;
    uint8_t tunnel_family;
    uint32_t network;        /* VNI + 1; 0: none */
    uint32_t icmp_errors;    /* ICMP errors that quote a packet of this flow */
    uint8_t icmp_error_type; /* type of the latest one */
    uint8_t icmp_error_code;
    uint8_t first_packets; /* number of nr_first_packet records filled */
    uint8_t one_sided;     /* the capture sees one direction only */
    uint8_t app_protocol;  /* NR_APP_* */
    uint8_t has_macs;      /* the two addresses below are known */
    uint8_t how;           /* NR_EVENT_NEIGHBOUR: NR_HOW_* */
    uint8_t prefix_length; /* NR_HOW_PREFIX: bits of orig_h that all addresses here share */
    uint32_t app_at;      /* the application record: where it begins, in bytes from the first event
                             of those that nr_reader_take gave at once */
    uint32_t app_size;    /* its bytes; 0: there is none */
    uint32_t app_count;   /* exchanges of the flow so far */
    uint32_t mac_changes; /* packets with other MAC addresses than the side's packet before */
    uint8_t orig_mac[6];  /* of the first packet */
    uint8_t resp_mac[6];
    uint8_t reserved2[4];
    char history[NR_HISTORY_SIZE]; /* NUL-padded */
} nr_event;

/* Packet statistics of one side: frame sizes on the wire, and gaps between its own packets. */
typedef struct {
    double size_mean;
    double size_m2; /* sum of squared differences from the mean */
    double gap_mean_ns;
    double gap_m2;
    uint64_t gap_min_ns;
    uint64_t gap_max_ns;
    uint32_t size_min;
    uint32_t size_max;
} nr_packet_statistics;

typedef struct {
    uint64_t gap_ns; /* since the previous packet of either side */
    int32_t size;    /* negative: sent by the responder */
    uint32_t reserved;
} nr_first_packet;

typedef struct {
    uint16_t port; /* of UDP */
    uint8_t kind;  /* NR_TUNNEL_* */
    uint8_t reserved;
} nr_tunnel_port;

typedef struct {
    uint32_t tunnel_depth; /* 0: opens no tunnel */
    uint8_t key;           /* NR_KEY_* */
    uint8_t key_vlan;      /* VLAN ids are part of the key */
    uint8_t directional;   /* each direction is its own flow */
    uint8_t verify_checksums;
    uint8_t trust_sliced;    /* believes the IP length of a frame that a mirror has sliced */
    uint64_t tunnel_bits[4]; /* nr_reader_create() sets one for each tunnel port's low byte */
    uint32_t tunnel_port_count;
    nr_tunnel_port tunnel_ports[NR_MAX_TUNNEL_PORTS]; /* each port once */
} nr_decode_options;

typedef struct {
    uint64_t idle_ns;
    uint16_t port; /* the responder's */
    uint8_t proto;
    uint8_t reserved[5];
} nr_port_timeout;

typedef struct nr_names nr_names;         /* the names of addresses; see below */
typedef struct nr_aggregate nr_aggregate; /* the sums of all flows; see below */

typedef struct {
    uint64_t half_open_ns; /* since the first packet; the other timeouts, since the latest one */
    uint64_t idle_tcp_ns;
    uint64_t idle_udp_ns;
    uint64_t idle_icmp_ns;
    uint64_t idle_other_ns;
    uint64_t close_delay_ns;
    uint64_t active_ns; /* 0: no limit */
    uint64_t update_ns; /* 0: no updates */
    uint64_t fragment_ns;
    uint32_t fragment_slots;
    uint32_t max_flows;   /* a table that may grow: to begin with */
    uint32_t event_slots; /* a power of two */
    uint32_t first_packets;
    uint32_t packet_statistics;
    uint32_t one_sided;           /* marks every event */
    uint32_t reassembled;         /* fragments count their bytes once their datagram is whole */
    uint32_t ignore_server_ports; /* the sender of the first packet is the originator */
    uint32_t kinds;               /* bits 1 << NR_EVENT_* of the kinds to make; 0: all kinds */
    uint32_t port_timeout_count;
    nr_port_timeout port_timeouts[NR_MAX_PORT_TIMEOUTS];
    nr_decode_options decode;
    uint8_t hash_key[16]; /* random */
    uint64_t first_id;    /* id of the first flow; several readers use disjoint ids */
    uint64_t id_step;     /* from one id to the next; 0 means 1, for both */
    uint64_t grow_bytes;  /* memory up to which the table of a replay may grow; 0: it does not */
    uint32_t id_by_frame; /* of a replay: a hash of the first frame is added to first_id */
    uint32_t names;       /* NR_NAMES_* */
    uint64_t names_bytes; /* memory for payload that waits for more */
    nr_names *address_names; /* shared by the readers of a capture, and outlives them; NULL: none */
    nr_aggregate *aggregate; /* likewise */
} nr_flow_options;

typedef struct {
    uint32_t ifindex;
    uint32_t queue;
    uint32_t ring_size;
    uint32_t chunk_size;
    uint32_t chunks;
    uint32_t snaplen;    /* bytes kept of a frame, not counting its outermost VLAN tag */
    uint32_t huge_pages; /* for the UMEM, if the kernel has some free */
} nr_xsk_options;

typedef struct {
    uint16_t code;
    uint8_t jt;
    uint8_t jf;
    uint32_t k;
} nr_bpf_insn;

typedef struct {
    uint32_t ifindex;
    uint32_t block_size;
    uint32_t block_count;
    uint32_t retire_ms;
    uint32_t ignore_outgoing; /* otherwise each frame on loopback arrives twice */
    int32_t program_fd;       /* the filter as an eBPF program; -1: use insns */
    uint32_t insn_count;
    const nr_bpf_insn *insns; /* return the number of bytes of a frame to capture */
} nr_tpacket_options;

/* A set of addresses: ranges that are sorted and do not touch; both ends belong to them. In host
 * byte order, of an IPv6 address the higher half first. */
typedef struct {
    uint32_t first;
    uint32_t last;
} nr_range4;

typedef struct {
    uint64_t first[2];
    uint64_t last[2];
} nr_range6;

typedef struct {
    const nr_range4 *v4;
    const nr_range6 *v6;
    uint32_t v4_count;
    uint32_t v6_count;
} nr_address_set;

/* Instructions that classic BPF does not have: they jump by jt if an address is in a set, else by
 * jf. NR_FILTER_IN4: the address is A, the set is number k. The others: the 16 bytes at an offset
 * of the frame, the lower 24 bits of k, or at X + that offset; the set is number k >> 24. */
#define NR_FILTER_IN4 0x55
#define NR_FILTER_IN6 0x65
#define NR_FILTER_IN6_X 0x6d

/* A filter program in memory of the caller. */
typedef struct {
    const nr_bpf_insn *insns;
    const nr_address_set *sets;
    uint32_t count;
    uint32_t set_count;
} nr_filter_program;

/* A frame for nr_filter_run: caplen bytes captured of len on the wire. */
typedef struct {
    const uint8_t *data;
    uint32_t caplen;
    uint32_t len;
    uint16_t vlan_tci;
    uint16_t vlan_tpid; /* the tag that the kernel took out of a live frame; 0: none */
    uint32_t live;      /* 0: only the bytes are known, as for a frame in a file */
} nr_filter_frame;

/* Problems of a capture file. */
#define NR_FILE_FINE 0
#define NR_FILE_TRUNCATED 1  /* ends inside a record */
#define NR_FILE_NO_CAPTURE 2 /* does not begin like a known format */
#define NR_FILE_BAD_VERSION 3
#define NR_FILE_BAD_LENGTH 4 /* a record has an invalid length */
#define NR_FILE_BAD_BLOCK 5
#define NR_FILE_BAD_INTERFACE 6 /* a packet names an unknown interface */
#define NR_FILE_TOO_MANY_INTERFACES 7
#define NR_FILE_UNREADABLE 8 /* the kernel returned `error` */
#define NR_FILE_EMPTY 9      /* has not one byte */

/* State of a capture file after it was read. */
typedef struct {
    uint64_t offset; /* where the bad record begins */
    uint32_t problem;
    uint32_t error;
} nr_savefile_state;

/* Forms of the records that nr_reader_copy gives. */
#define NR_COPY_AS_IS 0  /* byte by byte, with all of the file that is no frame */
#define NR_COPY_PCAPNG 1 /* of a pcap file: enhanced packet blocks of interface 0, in its units */
#define NR_COPY_PCAP 2   /* records of pcap with nanoseconds */
#define NR_COPY_FRAMES 3 /* { u32 linktype, caplen, len, 0; caplen bytes, padded to four } */
#define NR_COPY_NO_LINKTYPE 0xffffffff

/* The order for nr_reader_copy, and its results. */
typedef struct {
    uint8_t *out;
    uint32_t size; /* of `out`: at least NR_COPY_ROOM */
    uint32_t form; /* NR_COPY_* */
    uint32_t max;  /* frames; 0: reads only as far as is_pcap or is_pcapng is known */
    /* results */
    uint32_t is_pcap;
    uint32_t is_pcapng;
    uint32_t used; /* bytes in `out` */
    uint32_t frames;
    uint32_t ended;          /* there is no more */
    uint32_t linktype;       /* NR_COPY_PCAP: of all frames; begins as NR_COPY_NO_LINKTYPE */
    uint32_t other_linktype; /* NR_COPY_PCAP: of a frame that ended the copy; begins likewise */
    uint32_t open_frame;     /* the unfinished record has a frame, which was counted */
    uint64_t open;           /* bytes so far of an unfinished record, from earlier calls too */
    uint64_t wire_bytes;
} nr_file_copy;
#define NR_COPY_ROOM 2097216 /* the buffer of a file, and the longest head and tail of a record */

/* An interface of a capture file. */
typedef struct {
    uint32_t linktype;
    uint32_t snaplen;
    uint32_t has_ns; /* pcap: its times are nanoseconds, not microseconds */
} nr_interface_description;

/* The reader's books: counters that only grow, except flows_live, flows_capacity, live_*,
 * fragments_waiting and in_ring. */
typedef struct {
    uint64_t received;
    uint64_t received_bytes;
    uint64_t keyed;
    uint64_t keyed_bytes;
    uint64_t handed_out; /* copied out as raw packets, not dissected */
    uint64_t not_keyed[NR_REASON_COUNT];
    uint64_t inner; /* keyed packets inside keyed packets: tunnels over UDP */
    uint64_t inner_bytes;
    uint64_t inner_not_keyed;
    uint64_t partly_read[NR_REASON_COUNT]; /* packets with a flow, by what is not believed */
    uint64_t fragments;                    /* IP fragments after the first that have a flow */
    uint64_t fragments_waiting;            /* frames that wait for their first fragment */
    uint64_t fragment_overlaps;
    uint64_t neighbours; /* addresses and prefixes that ARP and neighbour discovery told */
    uint64_t neighbours_repeated; /* those of them told within the last minute; without event */
    uint64_t flows_started;
    uint64_t flows_established;
    uint64_t flows_ended[NR_END_COUNT];
    uint64_t flows_live;
    uint64_t flows_peak;
    uint64_t flows_capacity; /* the flows that fit into the table; it may grow */
    uint64_t ended_packets;
    uint64_t ended_bytes;
    uint64_t live_packets;
    uint64_t live_bytes;
    uint64_t events_produced;
    uint64_t events_lost;
    uint64_t events_taken;
    uint64_t xsk_rx_dropped; /* XDP_STATISTICS, summed over the sockets */
    uint64_t xsk_rx_ring_full;
    uint64_t xsk_fill_ring_empty; /* diagnostic: in copy mode also counted as rx_dropped */
    uint64_t tp_packets;          /* PACKET_STATISTICS, accumulated: includes tp_drops */
    uint64_t tp_drops;
    uint64_t in_ring;       /* frames that the kernel handed over, not read yet */
    uint64_t file_frames;   /* frames read from capture files */
    uint64_t file_filtered; /* those of them that the filter rejected */
    uint64_t file_overlong; /* those with fewer bytes on the wire than captured */
    uint64_t link_errors;   /* times a source reported that its interface is down */
    uint64_t time_step;     /* steps of the wall clock, or of the time stamps of a file */
    uint64_t time_stray;    /* frames of a file whose time stamp fits to no other */
    uint64_t names_read;    /* exchanges */
    uint64_t names_missed[NR_MISSED_COUNT];
} nr_statistics;

/* A frame copied out by nr_reader_packets: caplen bytes at offset in the caller's buffer. */
typedef struct {
    uint64_t ts;
    uint32_t offset;
    uint32_t caplen;
    uint32_t len;
    uint32_t reserved;
} nr_packet;

/* Result of nr_reader_blocks: times of the first and last frame, and the size in bytes. */
typedef struct {
    uint64_t first_ts;
    uint64_t last_ts;
    uint32_t size;
    uint32_t reserved;
} nr_block_span;

/* Text formats. */
#define NR_FORMAT_JSON 0
#define NR_FORMAT_ZEEK 1
#define NR_FORMAT_ZEEK_JSON 2
#define NR_FORMAT_EVE 3
#define NR_FORMAT_CSV 4
#define NR_FORMAT_ZEEK_SSL 5 /* Zeek's logs of application protocols */
#define NR_FORMAT_ZEEK_HTTP 6
#define NR_FORMAT_ZEEK_DNS 7
#define NR_FORMAT_ZEEK_QUIC 8
#define NR_FORMAT_ZEEK_DHCP 9
#define NR_FORMAT_ZEEK_SSH 10

/* Options of nr_encode. */
typedef struct {
    uint32_t format;         /* NR_FORMAT_* */
    uint32_t kinds;          /* bit n: encodes events of kind n; others are skipped */
    uint64_t uid_key[2];     /* Zeek's uid derives from it and from the flow's id */
    uint64_t seq;            /* number of the first record; JSON only */
    const char *interface;   /* a JSON string, with its quotes; a cell of CSV; not for Zeek */
    const char *capture;     /* a JSON string; JSON only */
    uint32_t interface_size; /* 0: left out */
    uint32_t capture_size;   /* 0: left out */
    uint32_t has_seq;
    uint32_t compress_ipv6; /* EVE: addresses as in RFC 5952 */
    const char *terminator; /* written after each record */
    uint32_t terminator_size;
    uint32_t batch_size;  /* bytes at `batch` */
    const uint8_t *batch; /* the first event of the batch: nr_event.app_at counts from here */
} nr_text_options;

/* Result of nr_encode. */
typedef struct {
    uint32_t records;
    uint32_t size; /* bytes */
} nr_text;

typedef struct nr_reader nr_reader;

/* -- life of a reader: create, add sources, run in one thread, stop, flush, destroy -- */
nr_reader *nr_reader_create(const nr_flow_options *options); /* NULL: errno tells why */
void nr_reader_destroy(nr_reader *reader); /* not while another of its functions runs */
/* Destroys the copy that a forked child has: closes its descriptors, and leaves the parent's rings
 * alone, which the child has not mapped. */
void nr_reader_abandon(nr_reader *reader);

/* These return the source's index, or -errno. One thread at a time may add sources, also while the
 * reader runs, or gives packets or blocks: it takes the source up at once. */
int nr_reader_add_xsk(nr_reader *reader, const nr_xsk_options *options);
int nr_reader_add_tpacket(nr_reader *reader, const nr_tpacket_options *options);
/* Adds frames from memory, for tests: records of
 *     { u64 ts; u32 caplen; u32 len; u16 vlan_tci; u16 vlan_tpid (0: no tag taken out); u32 0;
 *       caplen bytes, padded to a multiple of 8 }.
 * The memory must outlive the reader. */
int nr_reader_add_replay(nr_reader *reader, const uint8_t *records, uint64_t size);

/* Adds a capture file, pcap or pcapng, read from its beginning; the caller keeps the descriptor. */
int nr_reader_add_savefile(nr_reader *reader, int fd);
/* Puts another file in the place of one that was read to its end. Not while the reader runs. */
int nr_reader_replace_savefile(nr_reader *reader, int source, int fd);
/* Reads all files of this reader as one, in the order of their frames' times, and lets
 * nr_reader_run return before the first frame of the time `ts` or later: another file can then be
 * added, and nr_reader_run be called again. Not while the reader runs. Returns -ENOMEM if memory
 * runs out. */
int nr_reader_read_until(nr_reader *reader, uint64_t ts);
/* Returns whether all frames of a file were read. Not while the reader runs. */
int nr_reader_source_is_read(const nr_reader *reader, int source);
/* Tells the time of the first frame of a file, of which it reads the beginning. Waits for the data
 * of a pipe. Returns 1, or 0 if the file has no frame that can be read, or -errno. */
int nr_first_time(int fd, uint64_t *ts);
/* Filters a capture file: call it before the run. The reader then stops with NR_READER_ASKS at each
 * frame whose link type has no program yet, and goes on with that frame when it is called again. */
#define NR_READER_ASKS 1
int nr_reader_ask_filters(nr_reader *reader, int source);
/* Has the file ask as well at link types that are not read, filtered or not: somebody should be
 * told. nr_reader_asks_unread() says whether a file asks for that reason. */
int nr_reader_ask_links(nr_reader *reader, int source);
int nr_reader_asks_unread(const nr_reader *reader, int source);
/* Returns the source that asks, and its link type through dlt; -1: none. `exact`: see below. */
int nr_reader_asking(const nr_reader *reader, uint32_t *dlt, uint32_t *exact);
/* Sets the program that frames of one link type must match; NULL: none of them does. It must
 * outlive the reader. Not while the reader runs. `quick`: the program may err on frames of which it
 * loads bytes that are not there; at the first of them the reader asks for an exact one. */
int nr_reader_filter_savefile(nr_reader *reader, int source, uint32_t dlt,
                              const nr_filter_program *program, int quick);
/* Reports how the reading ended; call it after the run. */
void nr_reader_savefile_state(const nr_reader *reader, int source, nr_savefile_state *state);
/* Returns how many bytes of the file were read; from any thread. */
uint64_t nr_reader_savefile_offset(const nr_reader *reader, int source);

/* Tells an interface that the file has described so far, or the only one of a pcap file. Returns
 * -ENOENT if there is no such. Not while another thread reads the file. */
int nr_reader_describe_interface(const nr_reader *reader, int source, uint32_t number,
                                 nr_interface_description *description);
/* Lets flow time go on by the clock while this pipe brings nothing; call it before the run. */
void nr_reader_set_live(nr_reader *reader, int source);

int nr_reader_source_fd(const nr_reader *reader, int source);
int nr_reader_source_zero_copy(const nr_reader *reader, int source);
int nr_reader_source_huge_pages(const nr_reader *reader, int source);
/* Sets busy polling; call it before the run. For this time after the latest frame of this AF_XDP
 * socket, the reader does not sleep but does the driver's receive work itself, at most `budget`
 * frames at once. */
int nr_reader_set_busy_poll(nr_reader *reader, int source, uint32_t microseconds, uint32_t budget);
/* Returns the NAPI instance that delivered the latest frame of an AF_XDP socket; 0: none, or
 * unknown. */
int nr_reader_source_napi_id(const nr_reader *reader, int source);

/* TPACKET_V3 sockets in a fanout group share the frames of one interface, by a hash that is the
 * same for both directions of a flow. The first function makes a group with this socket and returns
 * its id, or -errno. */
int nr_reader_make_fanout(nr_reader *reader, int source);
int nr_reader_join_fanout(nr_reader *reader, int source, int group);

/* Change a running reader, from any thread. The first two replace the filter of every TPACKET_V3
 * socket, each atomically; the third replaces the snaplen of AF_XDP sockets. */
int nr_reader_set_filter(nr_reader *reader, const nr_bpf_insn *insns, uint32_t count);
int nr_reader_set_filter_program(nr_reader *reader, int program_fd); /* eBPF */
void nr_reader_set_snaplen(nr_reader *reader, uint32_t snaplen);     /* AF_XDP */

/* Blocks until nr_reader_stop or the end of a replay, and returns 0, or -ENODEV when the interface
 * is gone. Reads the frames left in the rings before it returns. NR_READER_ASKS: set the filter
 * that nr_reader_asking() tells, and call it again. */
int nr_reader_run(nr_reader *reader);
int nr_reader_stop(nr_reader *reader); /* from any thread, or a signal handler */

/* Ends live flows (NR_END_SHUTDOWN) as long as there is room for their events, and returns how many
 * are still live. After nr_reader_run, call it and take the events until it returns 0, so that no
 * event is lost. */
uint32_t nr_reader_flush(nr_reader *reader);

/* Counts the events that are left as lost. After nr_reader_run, when nobody will take them. */
void nr_reader_discard(nr_reader *reader);

/* Copies up to max frames and returns their number. Waits up to timeout_ms for the first. Returns 0
 * on timeout or after nr_reader_stop, -EINTR after a signal, -ENODEV when the interface is gone,
 * and -EAGAIN when a capture file asks for a filter. Not together with nr_reader_run. */
int nr_reader_packets(nr_reader *reader, uint8_t *buffer, uint32_t size, nr_packet *packets,
                      uint32_t max, int timeout_ms);

/* Copies frames like nr_reader_packets, but as enhanced packet blocks of a pcapng section in the
 * machine's byte order, for its interface 0, with times in nanoseconds. */
int nr_reader_blocks(nr_reader *reader, uint8_t *buffer, uint32_t size, uint32_t max,
                     nr_block_span *span, int timeout_ms);
/* Copies records of a capture file that the filter accepts. Waits as nr_reader_packets does, and
 * returns as that does where it fails; 0 otherwise. Not together with nr_reader_run. */
int nr_reader_copy(nr_reader *reader, int source, nr_file_copy *copy, int timeout_ms);
/* Stops the sources from taking in new frames; those they have can still be read. For use with the
 * two functions above. */
void nr_reader_quiesce(nr_reader *reader);

/* Returns the time that flows have now, in ns since the Unix epoch; from any thread. It begins with
 * the wall clock, and follows the steps of that one slowly. */
uint64_t nr_reader_flow_time(const nr_reader *reader);

/* -- hand-off: one consumer -- */
int nr_reader_event_fd(const nr_reader *reader);        /* readable when events wait */
uint32_t nr_reader_event_size(const nr_reader *reader); /* an nr_event with its records */
/* Returns whether libcrypto is missing that the names of this reader need. */
int nr_reader_lacks_crypto(const nr_reader *reader);
/* Takes up to `max` events, and behind them their application records, as many as fit into `size`
 * bytes: at least NR_TAKE_ROOM and an event. Returns the number of events, and all bytes through
 * *used. */
#define NR_TAKE_ROOM 2048
uint32_t nr_reader_take(nr_reader *reader, void *events, uint32_t max, uint32_t size,
                        uint32_t *used);
void nr_reader_statistics(nr_reader *reader, nr_statistics *statistics);

/* -- names of addresses: one table for all readers of a capture, from any thread -- */
typedef struct {
    uint64_t first_ts; /* when it was told first, and last */
    uint64_t last_ts;
    uint8_t source; /* NR_APP_* */
    uint8_t reserved;
    uint16_t size; /* of the text, as it was sent */
    char text[NR_TEXT_MAX];
    uint8_t reserved2[4];
} nr_address_name;
typedef struct {
    uint64_t learned;  /* names told, those known before included */
    uint64_t replaced; /* names that made room before their time */
    uint64_t missed;   /* names and look-ups given up, because other threads were at the place */
    uint64_t capacity; /* names that there is room for */
    uint64_t names;    /* that are there; old ones stay until room is needed */
} nr_names_statistics;
nr_names *nr_names_create(uint64_t size, const uint8_t key[16]); /* NULL: memory ran out */
void nr_names_destroy(nr_names *names);                          /* when no reader has it */
/* Writes the names of an address, the latest first, and returns how many there are. Those whose
 * time is over, by the latest packets, are left out. */
uint32_t nr_names_of(nr_names *names, uint8_t family, const uint8_t *address,
                     nr_address_name *found, uint32_t max);
void nr_names_account(nr_names *names, nr_names_statistics *statistics);
/* Teaches a name by hand, of an exchange with this record; for tests. */
void nr_names_teach(nr_names *names, uint8_t family, const uint8_t *orig, const uint8_t *resp,
                    uint8_t protocol, const uint8_t *record, uint32_t size, uint64_t ts);
/* Looks a name up as a reader does at a flow's beginning; for tests. Returns its size; 0: none. */
uint32_t nr_names_ask(nr_names *names, uint8_t family, const uint8_t *asker,
                      const uint8_t *address, uint64_t ts, nr_address_name *found);

/* -- aggregates: what all flows of a capture have counted, in an interval and since the start; one
 * thread uses them, but for the local networks and the length of intervals -- */
#define NR_MAX_LOCAL 64
typedef struct {
    uint8_t address[16];
    uint8_t family;
    uint8_t bits;
} nr_network;
typedef struct {
    uint64_t interval_ns;
    uint32_t capacity; /* keys of each kind */
    uint32_t network_count;
    nr_network networks[NR_MAX_LOCAL]; /* whose addresses are local */
    uint8_t hash_key[16];              /* random */
} nr_aggregate_options;

#define NR_DIRECTION_IN 0
#define NR_DIRECTION_OUT 1
#define NR_DIRECTION_INTERNAL 2
#define NR_DIRECTION_TRANSIT 3
#define NR_DIRECTION_COUNT 4
typedef struct {
    uint64_t packets;
    uint64_t bytes;
    uint64_t flows; /* that began */
} nr_direction_sums;

/* Kinds of keys. A key is bytes behind each other, then zeros. */
#define NR_TOP_DEVICES 0  /* 6 bytes */
#define NR_TOP_HOSTS 1    /* 16 bytes as in nr_event, then the family */
#define NR_TOP_NAMES 2    /* u16 length; the name as it was sent, in lower case */
#define NR_TOP_SERVICES 3 /* u64: NR_APP_*; of none, NR_SERVICE_OTHER | the protocol of IP */
#define NR_TOP_PORTS 4    /* u64: the protocol of IP << 16 | the responder's port */
#define NR_TOP_PREFIXES 5 /* as of a host, /24 or /48 */
#define NR_TOP_COUNT 6
#define NR_TOP_MAX 1000
#define NR_TOP_KEY 264
#define NR_SERVICE_OTHER 256
typedef struct {
    uint64_t packets[2]; /* sent and received */
    uint64_t bytes[2];
    uint64_t flows;
    uint64_t error; /* so many bytes more may have been sent and received */
    uint8_t key[NR_TOP_KEY];
} nr_top_row;

nr_aggregate *nr_aggregate_create(const nr_aggregate_options *options); /* NULL: memory ran out */
void nr_aggregate_destroy(nr_aggregate *aggregate); /* when no reader has it */
/* Replaces the local networks, from any thread; readers take them up at their next interval. */
void nr_aggregate_set_local(nr_aggregate *aggregate, const nr_network *networks, uint32_t count);
/* Changes the length of intervals, in the same way. */
void nr_aggregate_set_interval(nr_aggregate *aggregate, uint64_t interval_ns);

typedef struct {
    uint64_t start;
    uint64_t end;
} nr_interval_span;
/* Adds an interval of a reader that is over, if there is one; a file's only after the events that
 * came before its end were taken. Returns whether there was one. For the consumer of the events:
 * the descriptor that tells of events tells of intervals too. */
int nr_reader_take_interval(nr_reader *reader, nr_interval_span *span);
/* Returns whether an interval of a file has to be taken before more events come. */
int nr_reader_awaits_interval(const nr_reader *reader);
/* Adds all that was counted and not taken yet, after the run, and once all events were taken. */
void nr_reader_take_last_interval(nr_reader *reader, nr_interval_span *span);

#define NR_OF_INTERVAL 0 /* what was added since nr_aggregate_clear() */
#define NR_OF_ALL 1
#define NR_OF_COUNT 2
/* Adds the interval to all. */
void nr_aggregate_add_up(nr_aggregate *aggregate);
void nr_aggregate_sums(const nr_aggregate *aggregate, uint32_t of,
                       nr_direction_sums sums[NR_DIRECTION_COUNT]);
/* Writes up to max rows, at most NR_TOP_MAX, the largest first. Returns how many. */
uint32_t nr_aggregate_top(nr_aggregate *aggregate, uint32_t of, uint32_t kind, nr_top_row *rows,
                          uint32_t max);
void nr_aggregate_clear(nr_aggregate *aggregate);
/* Adds to a key by hand, for tests. */
void nr_aggregate_feed(nr_aggregate *aggregate, uint32_t kind, const uint8_t *key, uint32_t size,
                       uint64_t sent, uint64_t received);

/* -- flow events as text -- */
/* Encodes `count` events, those at the indexes in `rows` (NULL: the first ones), as long as
 * nr_text_room() bytes are free in `out`. Returns the number of events done. `ends` is NULL, or has
 * room for `count` numbers and receives the end of each record in `out`. */
uint32_t nr_encode(const nr_text_options *options, const void *events, uint32_t event_size,
                   const uint32_t *rows, uint32_t count, char *out, uint32_t size, uint32_t *ends,
                   nr_text *text);
uint32_t nr_text_room(const nr_text_options *options); /* the longest record */
#define NR_CONN_STATE_SIZE 8
#define NR_COMMUNITY_ID_SIZE 32
/* Writes the conn_state and the Community ID of each event, both padded with NUL; a pair of
 * stations has no Community ID. */
void nr_derive(const void *events, uint32_t event_size, uint32_t count, char *conn_states,
               char *community_ids);

/* Addresses of events. */
#define NR_ADDRESS_COLUMN_ORIG 0
#define NR_ADDRESS_COLUMN_RESP 1
#define NR_ADDRESS_COLUMN_TUNNEL_ORIG 2
#define NR_ADDRESS_COLUMN_TUNNEL_RESP 3
#define NR_ADDRESS_COLUMN_ORIG_MAC 4
#define NR_ADDRESS_COLUMN_RESP_MAC 5
#define NR_ADDRESS_SIZE 39 /* of the longest as text */
/* Writes one of these addresses of each event as text, one behind the other, into `out`, and the
 * end of each into `ends`; one that an event does not have is empty. `out` has room for
 * NR_ADDRESS_SIZE bytes an event. Returns the bytes written. */
uint64_t nr_address_column(uint32_t column, const void *events, uint32_t event_size, uint32_t count,
                           char *out, uint64_t *ends);

/* Words for numbers of application records: IANA's names, and Zeek's where it prints others. They
 * return NULL for a number without a name. */
const char *nr_cipher_name(uint16_t suite);
const char *nr_tls_group_name(uint16_t group);
const char *nr_tls_version_name(uint32_t version); /* TLSv1.3, DTLSv1.2, SSLv3 */
const char *nr_dns_type_name(uint16_t type);       /* 255: * */
const char *nr_dns_rcode_name(uint16_t rcode);
const char *nr_dns_class_name(uint16_t number);
const char *nr_dns_opcode_name(uint16_t opcode);
const char *nr_dhcp_message_name(uint16_t type); /* of DHCP for IPv4: DISCOVER */

/* Names of NR_APP_*: "tls"; "" for none. The second one says where the name in a record of that
 * protocol comes from: "sni". */
const char *nr_app_protocol_name(uint8_t protocol);
const char *nr_app_name_source(uint8_t protocol);
/* Kinds of words. */
#define NR_WORD_TLS_VERSION 0
#define NR_WORD_CIPHER 1
#define NR_WORD_GROUP 2
#define NR_WORD_DNS_TYPE 3
#define NR_WORD_DNS_RCODE 4
#define NR_WORD_DHCP_MESSAGE 5
#define NR_WORD_DHCPV6_MESSAGE 6
#define NR_WORD_COUNT 7
#define NR_WORD_SIZE 64
/* Writes the word for a number, unknown-0x1234 if it has none, or the version that a record's
 * NR_FIELD_VERSION stands for. Both write at most NR_WORD_SIZE bytes, and return how many. */
uint32_t nr_app_word(uint32_t of, uint32_t number, char *out);
uint32_t nr_app_version(uint8_t protocol, uint32_t version, char *out);
/* Writes text of the network without what a reader may obey: control characters, ends of lines,
 * marks of direction and bytes that are no UTF-8 become \x1b. Writes at most four bytes for each
 * byte, and returns how many. */
uint32_t nr_network_text(const uint8_t *text, uint32_t size, char *out);

/* Texts of application records. */
#define NR_APP_COLUMN_NAME 0
#define NR_APP_COLUMN_NAME_FROM 1
#define NR_APP_COLUMN_ALPN 2
#define NR_APP_COLUMN_VERSION 3
#define NR_APP_COLUMN_JA4 4
#define NR_APP_COLUMN_CARRIER 5
#define NR_APP_COLUMN_RESP_NAME 6
#define NR_APP_COLUMN_CUT 7 /* empty: the record was cut */
/* Writes one of these texts of each event behind the other into `out`, the end of each into `ends`,
 * and into `there` whether the event has it. `batch`: the bytes that app_at counts in. `out` has
 * room for NR_WORD_SIZE bytes an event, and four for each byte of its record. Returns the bytes
 * written. */
uint64_t nr_app_column(uint32_t column, const void *events, uint32_t event_size, uint32_t count,
                       const uint8_t *batch, uint64_t batch_size, char *out, uint64_t *ends,
                       uint8_t *there);

/* -- classic BPF on bytes -- */
int nr_filter_check(const nr_filter_program *program); /* -EINVAL: do not run it */
/* Runs a checked program and returns its result; 0: it rejects the frame. */
uint32_t nr_filter_run(const nr_filter_program *program, const nr_filter_frame *frame);
/* The same, through `result`. Returns 0 if the program ended at a load outside of the frame. */
int nr_filter_try(const nr_filter_program *program, const nr_filter_frame *frame, uint32_t *result);

/* -- socket filters: a socket receives only what its filter accepts -- */
int nr_attach_filter(int fd, const nr_bpf_insn *insns, uint32_t count);
int nr_attach_program(int fd, int program_fd);

/* -- bpf(2) calls: load, attach and run what BCC compiled; descriptors are CLOEXEC -- */
int nr_map_create(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t entries,
                  uint32_t flags, const char *name);
/* Puts `count` keys into a map whose values have one byte. */
int nr_map_fill(int map_fd, const uint8_t *keys, uint32_t key_size, uint32_t count);
/* Loads a program. `log` is NULL, or receives the verifier's messages, NUL-terminated. */
int nr_program_load(uint32_t type, const void *insns, uint32_t count, char *log, uint32_t log_size);
/* Runs an XDP program `repeat` times on a copy of the frame, of at least 14 bytes. Returns its
 * action, and the mean time in ns through duration_ns. */
int nr_program_run(int program_fd, const uint8_t *frame, uint32_t size, uint32_t repeat,
                   uint32_t *duration_ns);
/* Opens the program of this id. */
int nr_program_by_id(uint32_t id);
enum { NR_PROGRAM_NAME = 16 };
/* Tells a program's id and its name, which ends with a NUL. */
int nr_program_info(int program_fd, uint32_t *id, char name[NR_PROGRAM_NAME]);
/* Writes the ids of the tcx programs at an interface's ingress. Returns how many there are, or
 * -ENOSPC if there are more than `count`; -EINVAL if the kernel has no tcx. */
int nr_tcx_programs(uint32_t ifindex, uint32_t *ids, uint32_t count);
int nr_link_create(int program_fd, uint32_t ifindex, uint32_t xdp_flags);
int nr_link_update(int link_fd, int program_fd);
int nr_link_detach(int link_fd); /* whoever else holds the link */
int nr_map_update(int map_fd, const void *key, const void *value);
int nr_map_lookup(int map_fd, const void *key, void *value);
int nr_map_delete(int map_fd, const void *key);
