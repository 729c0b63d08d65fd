// The ends of the bench: a program that makes packets, and one that ends them.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define LENGTH 60 // 64 bytes on a wire, its checksum included
#define SOURCE_PORT 34
#define UDP_CHECKSUM 40

volatile const __u8 packet[LENGTH]; // of flow 0, with right checksums
volatile const __u32 interface;     // where to
volatile const __u32 flows;         // how many source ports, a power of two
__u32 next;

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} arrived SEC(".maps");

// Frames come from a small pool and are used again: all of the packet is written each time.
SEC("xdp")
int generate(struct xdp_md *ctx)
{
    __u8 *data = (void *)(long)ctx->data;
    if (data + LENGTH > (__u8 *)(long)ctx->data_end)
        return XDP_ABORTED;
#pragma unroll
    for (int i = 0; i < LENGTH; i++)
        data[i] = packet[i];
    __u32 flow = next++ & (flows - 1);
    __u32 port = (data[SOURCE_PORT] << 8 | data[SOURCE_PORT + 1]) + flow;
    data[SOURCE_PORT] = port >> 8;
    data[SOURCE_PORT + 1] = port;
    // RFC 1624, equation 3: the complement of the sum grows by what the port grew
    __u32 sum = ((data[UDP_CHECKSUM] << 8 | data[UDP_CHECKSUM + 1]) ^ 0xffff) + flow;
    sum = (sum & 0xffff) + (sum >> 16);
    sum ^= 0xffff;
    data[UDP_CHECKSUM] = sum >> 8;
    data[UDP_CHECKSUM + 1] = sum;
    return bpf_redirect(interface, 0);
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
    __u32 key = 0;
    __u64 *count = bpf_map_lookup_elem(&arrived, &key);
    if (count)
        *count += 1;
    return XDP_DROP;
}

// The sender's end of a veth takes redirected frames only while its peer and itself run NAPI: this switches it on.
SEC("xdp")
int pass(struct xdp_md *ctx)
{
    return XDP_PASS;
}

char licence[] SEC("license") = "Dual BSD/GPL";
