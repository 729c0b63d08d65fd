// SPDX-License-Identifier: Apache-2.0
/* Access ports: whatever a container sends is the engine's. */
#include "handover.h"

SEC("xdp")
int access(struct xdp_md *ctx)
{
	return hand_over(ctx);
}

/* The same for frames of several buffers. */
SEC("xdp.frags")
int access_frags(struct xdp_md *ctx)
{
	return hand_over(ctx);
}

char _license[] SEC("license") = "Apache-2.0";
