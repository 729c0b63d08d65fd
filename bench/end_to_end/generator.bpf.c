// The ends of the bench: a program that makes packets, and one that ends them.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define LENGTH 60 // 64 bytes on a wire, its checksum included
#define IP_CHECKSUM 24
#define DESTINATION_IP 32 // its lower half
#define SOURCE_PORT 34
#define UDP_CHECKSUM 40

volatile const __u8 packet[LENGTH]; // from the first port to the first destination, with right checksums
volatile const __u32 interface;     // where to
volatile const __u32 sources;       // how many source ports
volatile const __u32 destinations;  // how many destination addresses
__u32 next;

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} arrived SEC(".maps");

// Adds to a 16-bit word, which does not overflow.
static __always_inline void grow(__u8 *word, __u32 by)
{
    __u32 value = (word[0] << 8 | word[1]) + by;
    word[0] = value >> 8;
    word[1] = value;
}

// RFC 1624, equation 3: the complement of a sum grows by what its words grew.
static __always_inline void grow_sum(__u8 *checksum, __u32 by)
{
    __u32 sum = ((checksum[0] << 8 | checksum[1]) ^ 0xffff) + by;
    sum = (sum & 0xffff) + (sum >> 16);
    sum ^= 0xffff;
    checksum[0] = sum >> 8;
    checksum[1] = sum;
}

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
    __u32 source = next % sources, destination = next % destinations;
    next++;
    grow(data + SOURCE_PORT, source);
    grow(data + DESTINATION_IP, destination);
    grow_sum(data + IP_CHECKSUM, destination);
    grow_sum(data + UDP_CHECKSUM, source + destination);
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
