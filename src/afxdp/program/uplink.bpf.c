// SPDX-License-Identifier: Apache-2.0
/* Uplinks and external ports: which packets are the engine's. The rules are written out in mod.rs. */
#include "frame.h"
#include "handover.h"

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PARAMETER_PROBLEM 4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
#define ICMPV6_NEIGHBOUR_SOLICITATION 135

/* Reassembly gives up after as long (Linux ipfrag_time); a decision that is older belongs to another packet. */
#define FRAGMENT_SECONDS 30

/* Ports in host order, both included. */
struct port_range {
	__u16 first;
	__u16 last;
};

struct portless_key {
	struct address ip;
	__u8 proto;
	__u8 zero[3];
};

/* `port` in host order; 0 for a portless protocol. */
struct public_key {
	struct address ip;
	__u16 port;
	__u8 proto;
	__u8 zero;
};

struct fragment_key {
	struct address src;
	struct address dst;
	__u32 id;
	__u8 proto;
	__u8 zero[3];
};

struct fragment_decision {
	__u32 seconds;
	__u32 claimed;
};

#define ROLE_EXTERNAL 1
/* The engine keeps fragments that come before their first, and has a way to give back what is the kernel's. */
#define KEEPS_EARLY 4
/* How many VLAN tags frames bear (0 to 2), and their identifiers, outermost first. */
#define ROLE_TAGS(role) ((role) >> 4 & 3)
#define ROLE_FIRST_TAG(role) ((role) >> 8 & 0xfff)
#define ROLE_SECOND_TAG(role) ((role) >> 20 & 0xfff)

/* The role of the interface, and its VLAN tags. Written by the loader, but for the bit
 * above: by the engine. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} settings SEC(".maps");

/* Our ServerIPs and their owned ports. This map and the four below: written by the engine, read here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct address);
	__type(value, struct port_range);
} servers SEC(".maps");

/* On a gateway's uplink: the ServerIPs of others. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct address);
	__type(value, struct port_range);
} far_servers SEC(".maps");

/* Portless protocols that are bound on a ServerIP, or published on another server's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct portless_key);
	__type(value, __u32);
} portless SEC(".maps");

/* Public names. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, struct public_key);
	__type(value, __u32);
} publics SEC(".maps");

#define PUBLIC_ECHO 1
#define PUBLIC_NEIGHBOUR 2

/* The addresses of the public names, and what the engine answers for them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct address);
	__type(value, __u32);
} public_ips SEC(".maps");

/* By echo identifier: the second (CLOCK_BOOTTIME) from which its replies are no longer ours. Written by the engine
 * through a memory mapping. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u32);
} echo SEC(".maps");

/* What was decided about first fragments. Written and read here only. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct fragment_key);
	__type(value, struct fragment_decision);
} fragments SEC(".maps");

enum decision {
	CLAIMED,
	HOST,
	UNREADABLE,
};

static __always_inline __u32 now_seconds(void)
{
	return bpf_ktime_get_boot_ns() / 1000000000;
}

static __always_inline bool in_range(const struct port_range *ports, __u16 port)
{
	return ports && ports->first <= port && port <= ports->last;
}

static __always_inline bool is_public(const struct address *ip, __u8 proto, __u16 port)
{
	struct public_key key = { .ip = *ip, .port = port, .proto = proto };
	return bpf_map_lookup_elem(&publics, &key) != NULL;
}

static __always_inline bool is_bound_portless(const struct address *ip, __u8 proto)
{
	struct portless_key key = { .ip = *ip, .proto = proto };
	return bpf_map_lookup_elem(&portless, &key) != NULL;
}

static __always_inline bool echo_is_ours(__u16 id)
{
	__u32 key = id, *until = bpf_map_lookup_elem(&echo, &key);
	return until && now_seconds() < *until;
}

static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->proto == (packet->v6 ? PROTO_ICMPV6 : PROTO_ICMP);
}

static __always_inline bool is_error(const struct packet *packet, __u8 type)
{
	if (packet->v6)
		return ICMPV6_UNREACHABLE <= type && type <= ICMPV6_PARAMETER_PROBLEM;
	return type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

/* The packet that an error quotes. */
static __always_inline bool read_embedded(const struct frame *frame, const struct packet *error,
					  struct packet *embedded)
{
	__u32 at = error->l4 + 8;
	return error->v6 ? read_ipv6(frame, at, error->end, embedded) : read_ipv4(frame, at, error->end, embedded);
}

/* An error is the engine's if the packet that it is about was: the embedded source is one of our names. */
static __always_inline enum decision decide_error(const struct frame *frame, const struct packet *error)
{
	struct packet embedded = {};
	if (!read_embedded(frame, error, &embedded))
		return UNREADABLE;

	const struct port_range *ports = bpf_map_lookup_elem(&servers, &embedded.src);
	bool has_ports = embedded.proto == PROTO_TCP || embedded.proto == PROTO_UDP;
	if (!has_ports && !is_icmp(&embedded)) {
		if (ports && is_bound_portless(&embedded.src, embedded.proto))
			return CLAIMED;
		return is_public(&embedded.src, embedded.proto, 0) ? CLAIMED : HOST;
	}
	if (embedded.fragment == LATER)
		return HOST;
	const __be16 *l4 = l4_bytes(frame, &embedded, 8);
	if (!l4)
		return UNREADABLE;
	if (has_ports) {
		__u16 port = bpf_ntohs(l4[0]);
		if (in_range(ports, port) || is_public(&embedded.src, embedded.proto, port))
			return CLAIMED;
		return HOST;
	}
	if (*(const __u8 *)l4 != (embedded.v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST))
		return HOST;
	return ports && echo_is_ours(bpf_ntohs(l4[2])) ? CLAIMED : HOST;
}

/* To nobody here: an error about what a client outside has sent to a public name, which is a wire name of another server
 * there: the embedded destination. */
static __always_inline bool tells_client(const struct frame *frame, const struct packet *packet)
{
	if (packet->fragment == LATER || !is_icmp(packet))
		return false;
	const __u8 *icmp = l4_bytes(frame, packet, 8);
	struct packet embedded = {};
	if (!icmp || !is_error(packet, *icmp) || !read_embedded(frame, packet, &embedded) || is_icmp(&embedded))
		return false;
	if (embedded.proto != PROTO_TCP && embedded.proto != PROTO_UDP)
		return !bpf_map_lookup_elem(&servers, &embedded.dst) && is_bound_portless(&embedded.dst, embedded.proto);
	if (embedded.fragment == LATER)
		return false;
	const __be16 *l4 = l4_bytes(frame, &embedded, 8);
	return l4 && in_range(bpf_map_lookup_elem(&far_servers, &embedded.dst), bpf_ntohs(l4[1]));
}

static __always_inline enum decision decide_icmp(const struct frame *frame, const struct packet *packet, __u32 role,
						 const struct port_range *ports, const __u32 *public_ip)
{
	const __be16 *icmp = l4_bytes(frame, packet, 8);
	if (!icmp)
		return UNREADABLE;
	__u8 type = *(const __u8 *)icmp;
	if (type == (packet->v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST))
		return role & ROLE_EXTERNAL && public_ip && *public_ip & PUBLIC_ECHO ? CLAIMED : HOST;
	if (type == (packet->v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY))
		return ports && echo_is_ours(bpf_ntohs(icmp[2])) ? CLAIMED : HOST;
	return is_error(packet, type) ? decide_error(frame, packet) : HOST;
}

/* Decides about a packet that shows its L4 header. */
static __always_inline enum decision decide_by_port(const struct frame *frame, const struct packet *packet, __u32 role,
						    const struct port_range *ports, const __u32 *public_ip)
{
	if (is_icmp(packet))
		return decide_icmp(frame, packet, role, ports, public_ip);
	bool has_ports = packet->proto == PROTO_TCP || packet->proto == PROTO_UDP;
	__u16 port = 0;
	if (has_ports) {
		const __be16 *l4 = l4_bytes(frame, packet, 4);
		if (!l4)
			return UNREADABLE;
		port = bpf_ntohs(l4[1]);
	}
	if (role & ROLE_EXTERNAL && public_ip && is_public(&packet->dst, packet->proto, port))
		return CLAIMED;
	if (has_ports)
		return in_range(ports, port) ? CLAIMED : HOST;
	return ports && is_bound_portless(&packet->dst, packet->proto) ? CLAIMED : HOST;
}

/* RFC 791 names a datagram by (source, destination, protocol, id); RFC 8200 leaves the protocol out. */
static __always_inline struct fragment_key fragment_key(const struct packet *packet)
{
	return (struct fragment_key){
		.src = packet->src,
		.dst = packet->dst,
		.id = packet->fragment_id,
		.proto = packet->v6 ? 0 : packet->proto,
	};
}

/* Whoever it is for, it may be the host's: without an engine the kernel has it. */
static __always_inline int keep_early(struct xdp_md *ctx)
{
	int action = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
	count(action == XDP_REDIRECT ? REDIRECTED : PASSED_UNDECIDED);
	return action;
}

/* A later fragment goes where its first one went. One that comes before its first may be anybody's: the engine keeps it
 * until it knows, and gives it back if it is not its own. */
static __always_inline int follow_first(struct xdp_md *ctx, const struct packet *packet, __u32 role)
{
	struct fragment_key key = fragment_key(packet);
	const struct fragment_decision *first = bpf_map_lookup_elem(&fragments, &key);
	if (!first || now_seconds() - first->seconds >= FRAGMENT_SECONDS)
		return role & KEEPS_EARLY ? keep_early(ctx) : pass(PASSED_UNDECIDED);
	return first->claimed ? hand_over(ctx) : pass(PASSED_FRAGMENT);
}

static __always_inline void remember_first(const struct packet *packet, bool claimed)
{
	struct fragment_key key = fragment_key(packet);
	struct fragment_decision decision = { .seconds = now_seconds(), .claimed = claimed };
	bpf_map_update_elem(&fragments, &key, &decision, BPF_ANY);
}

static __always_inline bool engine_answers_neighbours(const struct address *ip)
{
	const __u32 *public_ip = bpf_map_lookup_elem(&public_ips, ip);
	return public_ip && *public_ip & PUBLIC_NEIGHBOUR;
}

/* A neighbour solicitation (RFC 4861 section 4.3) for a public IP: its own destination is a multicast group. */
static __always_inline bool solicits_public(const struct frame *frame, const struct packet *packet)
{
	if (!packet->v6 || packet->proto != PROTO_ICMPV6 || packet->fragment != WHOLE)
		return false;
	const __u8 *icmp = l4_bytes(frame, packet, 24);
	if (!icmp || icmp[0] != ICMPV6_NEIGHBOUR_SOLICITATION)
		return false;
	struct address target;
	__builtin_memcpy(&target, icmp + 8, sizeof(target));
	return engine_answers_neighbours(&target);
}

struct arp_packet {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
};

/* An ARP request (RFC 826) for a public IP. */
static __always_inline bool asks_for_public(const struct frame *frame)
{
	const struct arp_packet *arp = bytes_at(frame, ETHERNET_HEADER, sizeof(*arp));
	if (!arp || arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETHERTYPE_IPV4) ||
	    arp->hardware_length != 6 || arp->protocol_length != 4 || arp->operation != bpf_htons(1))
		return false;
	__be32 target;
	__builtin_memcpy(&target, arp->target_ip, sizeof(target));
	struct address ip = from_v4(target);
	return engine_answers_neighbours(&ip);
}

/* True if the frame's outermost tag is this one, whatever its priority; the frame then begins 4 bytes later, so that what
 * follows the tag is where it is in untagged frames. */
static __always_inline bool take_off(struct frame *frame, __u16 type, __u16 id)
{
	const __be16 *tag = bytes_at(frame, ETHERNET_HEADER - 2, 6);
	if (!tag || tag[0] != bpf_htons(type) || (bpf_ntohs(tag[1]) & 0xfff) != id)
		return false;
	frame->data += 4;
	return true;
}

static __always_inline bool take_off_tags(struct frame *frame, __u32 role)
{
	switch (ROLE_TAGS(role)) {
	case 0:
		return true;
	case 1:
		return take_off(frame, ETHERTYPE_VLAN, ROLE_FIRST_TAG(role));
	default:
		return take_off(frame, ETHERTYPE_QINQ, ROLE_FIRST_TAG(role)) &&
		       take_off(frame, ETHERTYPE_VLAN, ROLE_SECOND_TAG(role));
	}
}

static __always_inline int filter(struct xdp_md *ctx)
{
	struct frame frame = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	__u32 zero = 0;
	const __u32 *setting = bpf_map_lookup_elem(&settings, &zero);
	__u32 role = setting ? *setting : 0;
	if (!take_off_tags(&frame, role))
		return pass(PASSED_VLAN);
	const __be16 *ethernet = bytes_at(&frame, 0, ETHERNET_HEADER);
	if (!ethernet)
		return pass(PASSED_UNREADABLE);

	struct packet packet = {};
	bool readable;
	switch (bpf_ntohs(ethernet[6])) {
	case ETHERTYPE_IPV4:
		readable = read_ipv4(&frame, ETHERNET_HEADER, 0, &packet);
		break;
	case ETHERTYPE_IPV6:
		readable = read_ipv6(&frame, ETHERNET_HEADER, 0, &packet);
		break;
	case ETHERTYPE_ARP:
		return role & ROLE_EXTERNAL && asks_for_public(&frame) ? hand_over(ctx) : pass(PASSED_OTHER);
	case ETHERTYPE_VLAN:
	case ETHERTYPE_QINQ:
		return pass(PASSED_VLAN);
	default:
		return pass(PASSED_OTHER);
	}
	if (!readable)
		return pass(PASSED_UNREADABLE);

	const struct port_range *ports = bpf_map_lookup_elem(&servers, &packet.dst);
	const __u32 *public_ip = bpf_map_lookup_elem(&public_ips, &packet.dst);
	if (!ports) {
		/* Two tests: as one, of both pointers, the verifier refuses it. */
		asm volatile("" ::: "memory");
		if (!public_ip) {
			if (role & ROLE_EXTERNAL && solicits_public(&frame, &packet))
				return hand_over(ctx);
			return tells_client(&frame, &packet) ? hand_over(ctx) : pass(PASSED_NOT_OURS);
		}
	}
	if (packet.fragment == LATER)
		return follow_first(ctx, &packet, role);
	enum decision decision = decide_by_port(&frame, &packet, role, ports, public_ip);
	if (packet.fragment == FIRST)
		remember_first(&packet, decision == CLAIMED);
	if (decision == CLAIMED)
		return hand_over(ctx);
	return pass(decision == HOST ? PASSED_HOST : PASSED_UNREADABLE);
}

SEC("xdp")
int uplink(struct xdp_md *ctx)
{
	return filter(ctx);
}

/* The same for frames of several buffers: the headers lie in the first. */
SEC("xdp.frags")
int uplink_frags(struct xdp_md *ctx)
{
	return filter(ctx);
}

char _license[] SEC("license") = "Apache-2.0";
