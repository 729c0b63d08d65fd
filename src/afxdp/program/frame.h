/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of frames: one walk for IPv4 and IPv6, for a packet and for the packet that an ICMP error embeds.
 * Every read is checked against the frame's end and, but for embedded packets, against the IP length field. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#define ETHERNET_HEADER 14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define ETHERTYPE_IPV6 0x86dd

#define PROTO_HOP_BY_HOP 0
#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_ICMPV6 58
#define PROTO_DESTINATION_OPTIONS 60

/* RFC 8200 section 4.1 names four extension headers that we walk, destination options twice; more is nobody's. */
#define MAX_EXTENSION_HEADERS 6
/* No L4 header that we read starts later: the verifier wants a bound. */
#define MAX_OFFSET 4096

/* An address in wire order; IPv4 is held as ::ffff:a.b.c.d. */
struct address {
	__u32 words[4];
};

struct frame {
	void *data;
	void *data_end;
};

enum fragment {
	WHOLE,
	FIRST,
	LATER,
};

struct packet {
	struct address src;
	struct address dst;
	__u32 fragment_id;
	/* Offsets in the frame: of the L4 header, and of the end of the IP packet. */
	__u32 l4;
	__u32 end;
	enum fragment fragment;
	__u8 proto;
	bool v6;
};

struct ipv4_header {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 proto;
	__be16 checksum;
	__be32 src;
	__be32 dst;
};

struct ipv6_header {
	__be32 version_class_flow;
	__be16 payload_length;
	__u8 next;
	__u8 hop_limit;
	struct address src;
	struct address dst;
};

/* `size` bytes at `offset`, or NULL if they are not all in the frame. */
static __always_inline void *bytes_at(const struct frame *frame, __u32 offset, __u32 size)
{
	if (offset > MAX_OFFSET)
		return NULL;
	void *bytes = frame->data + offset;
	return bytes + size > frame->data_end ? NULL : bytes;
}

/* The first `size` bytes of the L4 header, or NULL if the frame or the IP packet ends before. */
static __always_inline void *l4_bytes(const struct frame *frame, const struct packet *packet, __u32 size)
{
	return packet->l4 + size > packet->end ? NULL : bytes_at(frame, packet->l4, size);
}

static __always_inline bool is_v4_mapped(const struct address *address)
{
	return address->words[0] == 0 && address->words[1] == 0 && address->words[2] == bpf_htonl(0xffff);
}

static __always_inline struct address from_v4(__be32 address)
{
	return (struct address){ { 0, 0, bpf_htonl(0xffff), address } };
}

/* Reads the IPv4 header at `at`. `limit` is 0, or the end of the packet whose payload this one is: an embedded
 * packet's own length speaks of bytes that the error left out. False: not readable. */
static __always_inline bool read_ipv4(const struct frame *frame, __u32 at, __u32 limit, struct packet *packet)
{
	const struct ipv4_header *ip = bytes_at(frame, at, sizeof(*ip));
	if (!ip || ip->version_ihl >> 4 != 4 || (limit && at + sizeof(*ip) > limit))
		return false;
	__u32 header = (ip->version_ihl & 0xf) * 4, total = bpf_ntohs(ip->total_length);
	if (header < sizeof(*ip) || (!limit && total < header))
		return false;
	__u16 fragment = bpf_ntohs(ip->fragment);
	packet->fragment = fragment & 0x1fff ? LATER : fragment & 0x2000 ? FIRST : WHOLE;
	packet->fragment_id = bpf_ntohs(ip->id);
	packet->l4 = at + header;
	packet->end = limit ? limit : at + total;
	packet->proto = ip->proto;
	packet->src = from_v4(ip->src);
	packet->dst = from_v4(ip->dst);
	packet->v6 = false;
	return true;
}

/* Reads the IPv6 header at `at` and walks its extension headers; `limit` as above. */
static __always_inline bool read_ipv6(const struct frame *frame, __u32 at, __u32 limit, struct packet *packet)
{
	const struct ipv6_header *ip = bytes_at(frame, at, sizeof(*ip));
	if (!ip || bpf_ntohl(ip->version_class_flow) >> 28 != 6 || (limit && at + sizeof(*ip) > limit))
		return false;
	packet->src = ip->src;
	packet->dst = ip->dst;
	/* RFC 4291 section 2.5.5.2: never on the wire; here it would be taken for an IPv4 name. */
	if (is_v4_mapped(&packet->src) || is_v4_mapped(&packet->dst))
		return false;
	packet->end = limit ? limit : at + sizeof(*ip) + bpf_ntohs(ip->payload_length);
	packet->fragment = WHOLE;
	packet->v6 = true;

	__u8 next = ip->next;
	__u32 offset = at + sizeof(*ip);
	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		if (next != PROTO_HOP_BY_HOP && next != PROTO_ROUTING && next != PROTO_FRAGMENT &&
		    next != PROTO_DESTINATION_OPTIONS) {
			packet->l4 = offset;
			packet->proto = next;
			return true;
		}
		const __u8 *header = bytes_at(frame, offset, 8);
		if (!header || offset + 8 > packet->end)
			return false;
		if (next == PROTO_FRAGMENT) {
			__u16 fragment = bpf_ntohs(*(__be16 *)(header + 2));
			packet->fragment_id = bpf_ntohl(*(__be32 *)(header + 4));
			if (fragment & 0xfff8) {
				packet->fragment = LATER;
				packet->l4 = offset + 8;
				packet->proto = header[0];
				return true;
			}
			/* Without more to come it is an atomic fragment: a whole packet (RFC 6946). */
			if (fragment & 1)
				packet->fragment = FIRST;
			offset += 8;
		} else {
			/* Segments left: the destination is only a stop on the way. */
			if (next == PROTO_ROUTING && header[3])
				return false;
			offset += (header[1] + 1) * 8;
		}
		next = header[0];
	}
	return false;
}
