/* The one door between C and Python.
 *
 * This text is both a C header (through core.h, which carries its guard) and the cdef of
 * _build.py, so nothing is declared twice. Functions that can fail return -errno.
 * All integers are in host byte order; addresses are in network order.
 */

/* What nr_event.kind says. */
#define NR_EVENT_STARTED 1
#define NR_EVENT_ESTABLISHED 2
#define NR_EVENT_UPDATED 3
#define NR_EVENT_ENDED 4

/* What nr_event.end_reason says; also the index into nr_statistics.flows_ended. */
#define NR_END_NONE 0
#define NR_END_FIN 1
#define NR_END_RST 2
#define NR_END_IDLE 3
#define NR_END_EVICTED 4
#define NR_END_SHUTDOWN 5
#define NR_END_ACTIVE 6
#define NR_END_REUSED 7
#define NR_END_COUNT 8

/* Why a received frame has no flow; the index into nr_statistics.not_keyed. 0 is "keyed". */
#define NR_KEYED 0
#define NR_CUT_LINK 1      /* captured bytes end inside the link header, a tag or a label */
#define NR_NOT_IP 2        /* another ethertype: ARP, LLDP, 802.3 length, ... */
#define NR_TOO_MANY_TAGS 3 /* more than 8 VLAN tags and MPLS labels */
#define NR_CUT_NETWORK 4   /* captured bytes end inside an IP header */
#define NR_BAD_NETWORK 5   /* IP version, header length or total length is nonsense */
#define NR_FRAGMENT 6      /* a later IP fragment whose first one was not seen */
#define NR_TOO_MANY_EXT 7  /* more than 16 IPv6 extension headers */
#define NR_CUT_TRANSPORT 8 /* captured bytes end inside the transport header */
#define NR_BAD_TRANSPORT 9 /* transport header length is nonsense */
#define NR_BAD_CHECKSUM 10 /* the IPv4 header's checksum, where it is looked at */
#define NR_UNKNOWN_LINK 11 /* a link layer that is not known, or has no stations to key by */
#define NR_REASON_COUNT 12

/* Link layers. */
#define NR_LINK_ETHERNET 0
#define NR_LINK_RAW 1 /* IPv4 or IPv6, by the version */
#define NR_LINK_NULL 2
#define NR_LINK_COOKED 3
#define NR_LINK_COOKED2 4
#define NR_LINK_PPP 5
#define NR_LINK_80211 6
#define NR_LINK_RADIOTAP 7
#define NR_LINK_NFLOG 8
#define NR_LINK_UNKNOWN 9

/* Tunnels that are opened. */
#define NR_TUNNEL_IP 1
#define NR_TUNNEL_GRE 2
#define NR_TUNNEL_ERSPAN 3
#define NR_TUNNEL_VXLAN 4
#define NR_TUNNEL_GENEVE 5
#define NR_TUNNEL_GTPU 6
#define NR_TUNNEL_TEREDO 7
#define NR_TUNNEL_AYIYA 8

/* What makes packets one flow. */
#define NR_KEY_FIVE_TUPLE 0
#define NR_KEY_HOST_PAIR 1
#define NR_KEY_MAC_PAIR 2

/* States of a side of a TCP connection: those of Zeek's endpoints. */
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

/* One side of a flow, as an event tells it. */
typedef struct {
    uint64_t packets;
    uint64_t bytes;    /* of whole frames on the wire */
    uint64_t ip_bytes; /* of IP packets, headers included */
    uint64_t payload;  /* of the transport; TCP: by the sequence numbers */
    uint64_t first_ts; /* 0: nothing was sent */
    uint64_t last_ts;
    uint64_t rtt_ns;        /* between the capture and this side, by the handshake; 0: unknown */
    uint64_t missing_bytes; /* acknowledged, and never seen */
    uint32_t retransmitted; /* segments with nothing new */
    uint32_t out_of_order;  /* segments that came after later ones */
    uint32_t gaps;
    uint32_t zero_windows;
    uint32_t bad_checksums; /* packets that were counted and not believed */
    uint32_t tcp_state;
} nr_event_side;

/* One flow event, as it crosses from the ring's thread to Python. In the hand-off it is followed
 * by two nr_packet_statistics and by nr_first_packet records, where the options ask for them. */
typedef struct {
    uint64_t ts; /* ns; never runs backwards within one reader */
    uint64_t flow_id;
    uint64_t start_ts;
    uint64_t parent_id; /* the flow that is the tunnel this one is in; 0: none */
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
    uint16_t vlan[2]; /* ids, outermost first; NR_NO_VLAN where there is none */
    uint16_t icmp_id;
    uint8_t family; /* 4 or 6; 0: MAC addresses */
    uint8_t proto;
    uint8_t kind;
    uint8_t end_reason;
    uint8_t tunnel_kind;
    uint8_t tunnel_family;
    uint32_t network;        /* VNI + 1; 0: none */
    uint32_t icmp_errors;    /* that quoted a packet of this flow */
    uint8_t icmp_error_type; /* of the latest */
    uint8_t icmp_error_code;
    uint8_t first_packets; /* how many nr_first_packet are filled */
    uint8_t reserved[5];
    char history[NR_HISTORY_SIZE]; /* NUL-padded */
} nr_event;

/* Of one side: sizes are those of frames on the wire, gaps are between its own packets. */
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
    uint64_t gap_ns; /* since the packet before it, of either side */
    int32_t size;    /* negative: sent by the responder */
    uint32_t reserved;
} nr_first_packet;

typedef struct {
    uint32_t tunnel_depth; /* 0: none is opened */
    uint8_t key;           /* NR_KEY_* */
    uint8_t key_vlan;      /* VLAN ids are part of the key */
    uint8_t directional;   /* each direction is a flow of its own */
    uint8_t verify_checksums;
} nr_decode_options;

typedef struct {
    uint64_t idle_ns;
    uint16_t port; /* the responder's */
    uint8_t proto;
    uint8_t reserved[5];
} nr_port_timeout;

typedef struct {
    uint64_t half_open_ns; /* from the first packet; the others from the latest */
    uint64_t idle_tcp_ns;
    uint64_t idle_udp_ns;
    uint64_t idle_icmp_ns;
    uint64_t idle_other_ns;
    uint64_t close_delay_ns;
    uint64_t active_ns; /* 0: a flow may last for ever */
    uint64_t update_ns; /* 0: no updates */
    uint64_t fragment_ns;
    uint32_t fragment_slots;
    uint32_t max_flows;
    uint32_t event_slots; /* a power of two */
    uint32_t first_packets;
    uint32_t packet_statistics;
    uint32_t kinds; /* a bit 1 << NR_EVENT_* for each that is made; 0: all are */
    uint32_t port_timeout_count;
    nr_port_timeout port_timeouts[NR_MAX_PORT_TIMEOUTS];
    nr_decode_options decode;
    uint8_t hash_key[16]; /* random */
    uint64_t first_id;    /* of the first flow; each of several readers has ids of its own */
    uint64_t id_step;     /* to the next flow; 0 is as 1, for both */
} nr_flow_options;

typedef struct {
    uint32_t ifindex;
    uint32_t queue;
    uint32_t ring_size;
    uint32_t chunk_size;
    uint32_t chunks;
    uint32_t snaplen;    /* bytes of a frame that are given out, its outermost VLAN tag apart */
    uint32_t huge_pages; /* for the UMEM, where the kernel has some to give */
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
    uint32_t ignore_outgoing; /* on loopback every frame is seen twice otherwise */
    int32_t program_fd;       /* the filter as a program of eBPF; -1: the instructions below */
    uint32_t insn_count;
    const nr_bpf_insn *insns; /* what they return is how many bytes of a frame are captured */
} nr_tpacket_options;

/* A frame for nr_filter_run: caplen bytes of a frame that had len on the wire. */
typedef struct {
    const uint8_t *data;
    uint32_t caplen;
    uint32_t len;
    uint16_t vlan_tci;
    uint16_t vlan_tpid; /* the tag that was taken out of a live frame; 0: none */
    uint32_t live;      /* 0: nothing but the bytes is known, as of a frame in a file */
} nr_filter_frame;

/* What is wrong with a capture file. */
#define NR_FILE_FINE 0
#define NR_FILE_TRUNCATED 1  /* ends inside of a record */
#define NR_FILE_NO_CAPTURE 2 /* begins with nothing known */
#define NR_FILE_BAD_VERSION 3
#define NR_FILE_BAD_LENGTH 4 /* a record's length makes no sense */
#define NR_FILE_BAD_BLOCK 5
#define NR_FILE_BAD_INTERFACE 6 /* a packet of an interface that was not described */
#define NR_FILE_TOO_MANY_INTERFACES 7
#define NR_FILE_UNREADABLE 8 /* the kernel said `error` */

/* How the reading of a capture file ended. */
typedef struct {
    uint64_t offset; /* of the record that is wrong */
    uint32_t problem;
    uint32_t error;
} nr_savefile_state;

/* The reader's books. Everything only grows, but for the flows_live and live_* values. */
typedef struct {
    uint64_t received;
    uint64_t received_bytes;
    uint64_t keyed;
    uint64_t keyed_bytes;
    uint64_t handed_out; /* given to nr_reader_packets, so not dissected */
    uint64_t not_keyed[NR_REASON_COUNT];
    uint64_t inner; /* packets inside of keyed ones, keyed as well: tunnels over UDP */
    uint64_t inner_bytes;
    uint64_t inner_not_keyed;
    uint64_t fragments; /* later ones, keyed by the ports of the first */
    uint64_t fragment_overlaps;
    uint64_t flows_started;
    uint64_t flows_established;
    uint64_t flows_ended[NR_END_COUNT];
    uint64_t flows_live;
    uint64_t flows_peak;
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
    uint64_t in_ring;       /* frames the kernel has handed over that are not yet read */
    uint64_t file_frames;   /* in the capture files, as far as they were read */
    uint64_t file_filtered; /* that the filter did not let through */
    uint64_t link_errors;   /* times a source reported that its interface is down */
} nr_statistics;

/* A frame copied out by nr_reader_packets: caplen bytes at offset in the caller's buffer. */
typedef struct {
    uint64_t ts;
    uint32_t offset;
    uint32_t caplen;
    uint32_t len;
    uint32_t reserved;
} nr_packet;

/* What nr_reader_blocks has made: the times of the first and the last frame, and the bytes. */
typedef struct {
    uint64_t first_ts;
    uint64_t last_ts;
    uint32_t size;
    uint32_t reserved;
} nr_block_span;

/* Formats of text. */
#define NR_FORMAT_JSON 0
#define NR_FORMAT_ZEEK 1
#define NR_FORMAT_ZEEK_JSON 2
#define NR_FORMAT_EVE 3
#define NR_FORMAT_CSV 4

/* How events become text. */
typedef struct {
    uint32_t format;       /* NR_FORMAT_* */
    uint32_t kinds;        /* bit n: events of kind n are encoded; others are passed over */
    uint64_t uid_key[2];   /* Zeek's uid follows from it and from the flow's number */
    uint64_t seq;          /* of the first record; JSON only, and so is `capture` */
    const char *capture;   /* as JSON has it, quotes included */
    uint32_t capture_size; /* 0: it is not told */
    uint32_t has_seq;
    const char *terminator; /* behind each record */
    uint32_t terminator_size;
} nr_text_options;

/* What nr_encode has made. */
typedef struct {
    uint32_t records;
    uint32_t size; /* bytes */
} nr_text;

typedef struct nr_reader nr_reader;

/* -- life of a reader: create, add sources, run in one thread, stop, flush, destroy -- */
nr_reader *nr_reader_create(const nr_flow_options *options); /* NULL: out of memory */
void nr_reader_destroy(nr_reader *reader);

/* Each returns the source's index, or -errno. */
int nr_reader_add_xsk(nr_reader *reader, const nr_xsk_options *options);
int nr_reader_add_tpacket(nr_reader *reader, const nr_tpacket_options *options);
/* Frames from memory, for tests and files: records of
 * { u64 ts; u32 caplen; u32 len; u16 vlan_tci; u16 vlan_tpid (0: no tag taken out); u32 0;
 *   caplen bytes, padded to a multiple of 8 }. The memory must outlive the reader. */
int nr_reader_add_replay(nr_reader *reader, const uint8_t *records, uint64_t size);

/* A capture file, pcap or pcapng, from its beginning on; the descriptor stays the caller's. */
int nr_reader_add_savefile(nr_reader *reader, int fd);
/* Before the run: the program for frames of this link type; others are not read then. */
int nr_reader_filter_savefile(nr_reader *reader, int source, uint32_t dlt, const nr_bpf_insn *insns,
                              uint32_t count);
/* After the run. */
void nr_reader_savefile_state(const nr_reader *reader, int source, nr_savefile_state *state);
/* How many bytes of it were read. From any thread. */
uint64_t nr_reader_savefile_offset(const nr_reader *reader, int source);

int nr_reader_source_fd(const nr_reader *reader, int source);
int nr_reader_source_zero_copy(const nr_reader *reader, int source);
int nr_reader_source_huge_pages(const nr_reader *reader, int source);
/* Before the run: for so long after the latest frame of this AF_XDP socket the reader does the
 * driver's receive work itself, budget frames at most in one go, before it sleeps. */
int nr_reader_set_busy_poll(nr_reader *reader, int source, uint32_t microseconds, uint32_t budget);
/* The NAPI instance that feeds an AF_XDP socket, as its latest frame told; 0: none, or unknown. */
int nr_reader_source_napi_id(const nr_reader *reader, int source);

/* TPACKET_V3 sockets of one interface share its frames by a hash that is the same for both
 * directions of a flow. Makes a group of the socket: returns its id, or -errno. */
int nr_reader_make_fanout(nr_reader *reader, int source);
int nr_reader_join_fanout(nr_reader *reader, int source, int group);

/* From any thread, while the reader runs. The first replaces the filter of every TPACKET_V3
 * socket, atomically for each; the other two take the place of the options' values. */
int nr_reader_set_filter(nr_reader *reader, const nr_bpf_insn *insns, uint32_t count);
int nr_reader_set_filter_program(nr_reader *reader, int program_fd); /* of eBPF */
void nr_reader_set_snaplen(nr_reader *reader, uint32_t snaplen);     /* of AF_XDP sockets */

/* Blocks until nr_reader_stop, or until a replay is read, and then 0; -ENODEV when the
 * interface is gone. Reads what is still in the rings before it returns. */
int nr_reader_run(nr_reader *reader);
int nr_reader_stop(nr_reader *reader); /* from any thread, and a signal handler */

/* After nr_reader_run: ends live flows (NR_END_SHUTDOWN) as long as there is room for their
 * events; returns how many are still live, so that none is lost: take, and call again. */
uint32_t nr_reader_flush(nr_reader *reader);

/* Copies up to max frames, waiting up to timeout_ms for the first; 0 on timeout or after
 * nr_reader_stop; -ENODEV when the interface is gone. Not together with nr_reader_run. */
int nr_reader_packets(nr_reader *reader, uint8_t *buffer, uint32_t size, nr_packet *packets,
                      uint32_t max, int timeout_ms);

/* The same, as enhanced packet blocks of a pcapng section in the machine's byte order, of its
 * interface 0, whose times are in nanoseconds. */
int nr_reader_blocks(nr_reader *reader, uint8_t *buffer, uint32_t size, uint32_t max,
                     nr_block_span *span, int timeout_ms);
/* From now on the sources take in nothing new; what they have is still read. For the two above. */
void nr_reader_quiesce(nr_reader *reader);

/* -- hand-off: one consumer -- */
int nr_reader_event_fd(const nr_reader *reader);        /* readable when events wait */
uint32_t nr_reader_event_size(const nr_reader *reader); /* with what follows each nr_event */
uint32_t nr_reader_take(nr_reader *reader, void *events, uint32_t max);
void nr_reader_statistics(nr_reader *reader, nr_statistics *statistics);

/* -- flow events as text -- */
/* Encodes `count` of the events, those with the numbers in `rows` (NULL: the first ones), while
 * nr_text_room() bytes are free in `out`; returns how many it is done with. `ends`, where it is not
 * NULL, has room for `count` numbers, and gets where each record ends in `out`. */
uint32_t nr_encode(const nr_text_options *options, const void *events, uint32_t event_size,
                   const uint32_t *rows, uint32_t count, char *out, uint32_t size, uint32_t *ends,
                   nr_text *text);
uint32_t nr_text_room(const nr_text_options *options); /* for one record, whatever is in it */

/* -- classic BPF on bytes -- */
int nr_filter_check(const nr_bpf_insn *insns, uint32_t count); /* -EINVAL: do not run it */
/* Runs a checked program: what it returns, 0 for a frame it rejects. */
uint32_t nr_filter_run(const nr_bpf_insn *insns, const nr_filter_frame *frame);

/* -- filters of sockets: what one accepts is what it receives -- */
int nr_attach_filter(int fd, const nr_bpf_insn *insns, uint32_t count);
int nr_attach_program(int fd, int program_fd);

/* -- the bpf(2) calls: loading what BCC compiled, attaching it, running it; fds are CLOEXEC -- */
int nr_map_create(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t entries,
                  const char *name);
/* The log may be NULL; what the verifier says is put there, NUL-terminated. */
int nr_program_load(uint32_t type, const void *insns, uint32_t count, char *log, uint32_t log_size);
/* Runs an XDP program `repeat` times on a copy of the frame, of at least 14 bytes: its action,
 * and the mean time in ns. */
int nr_program_run(int program_fd, const uint8_t *frame, uint32_t size, uint32_t repeat,
                   uint32_t *duration_ns);
int nr_link_create(int program_fd, uint32_t ifindex, uint32_t xdp_flags);
int nr_link_update(int link_fd, int program_fd);
int nr_map_update(int map_fd, const void *key, const void *value);
int nr_map_lookup(int map_fd, const void *key, void *value);
int nr_map_delete(int map_fd, const void *key);
