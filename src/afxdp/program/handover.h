/* SPDX-License-Identifier: Apache-2.0 */
/* What both programs share: the sockets, the counters, and how a frame gets from one to the other. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Index in `counters`; src/afxdp/program/counters.rs has the same order and says what each means. */
enum counter {
	REDIRECTED,
	NO_SOCKET,
	PASSED_UNDECIDED,
	PASSED_HOST,
	PASSED_FRAGMENT,
	PASSED_NOT_OURS,
	PASSED_UNREADABLE,
	PASSED_VLAN,
	PASSED_OTHER,
	COUNTERS,
};

/* Sockets by receive queue. Written by the engine; the kernel removes a socket that is closed. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* Frames by what became of them. Written here, each CPU its own; read by the engine. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);
	if (value)
		*value += 1;
}

static __always_inline int pass(enum counter why)
{
	count(why);
	return XDP_PASS;
}

/* Gives the frame to the socket of the queue that it came from. Owned traffic without a socket is dropped: the
 * kernel would answer it with resets and kill every connection. */
static __always_inline int hand_over(struct xdp_md *ctx)
{
	int action = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP);
	count(action == XDP_REDIRECT ? REDIRECTED : NO_SOCKET);
	return action;
}
