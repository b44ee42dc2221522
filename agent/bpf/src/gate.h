/* SPDX-License-Identifier: Apache-2.0 */
/* What the gate's programs and their loader agree on. The loader's side is layout.rs: a test compares the two. */

#ifndef WA_GATE_H
#define WA_GATE_H

#include <linux/types.h>

/* A unit's own entry: one page, memory-mapped and written by the coreapp alone.
 * The writer's order is deadline 0, epoch, deadline; each store a release. */
struct wa_unit {
	__u64 deadline_ns; /* CLOCK_BOOTTIME; 0: no tenure */
	__u64 epoch;       /* never 0 while there is a deadline */
};

/* What a socket carries. */
struct wa_stamp {
	__u64 unit;  /* cgroup id of the unit that made it */
	__u64 epoch; /* the live epoch at its connect; 0: not connected to anything that is gated */
};

/* Written by the host agent alone. */
struct wa_place {
	__u64 slice;      /* cgroup id of the coreapps' slice */
	__u64 max_ttl_ns; /* a deadline further away than this is no tenure */
};

/* Keys of the exempt networks: prefix length in bits, address in network order. */
struct wa_net4 {
	__u32 prefix;
	__u8 address[4];
};

struct wa_net6 {
	__u32 prefix;
	__u8 address[16];
};

/* Why a packet passed or was dropped, or a call was refused: one counter each. */
enum wa_reason {
	WA_PASSED_TENURE,       /* socket carries the live epoch of its unit */
	WA_PASSED_EXEMPT,       /* destination is exempt */
	WA_PASSED_RST,          /* TCP reset without payload */
	WA_DROPPED_NO_UNIT,     /* no entry for this cgroup */
	WA_DROPPED_NO_TENURE,   /* deadline 0 */
	WA_DROPPED_LAPSED,      /* deadline is over */
	WA_DROPPED_TOO_FAR,     /* deadline further away than max_ttl */
	WA_DROPPED_TORN,        /* entry changed while it was read */
	WA_DROPPED_SEALED,      /* epoch below the seal */
	WA_DROPPED_UNSTAMPED,   /* socket was not connected under a tenure */
	WA_DROPPED_OTHER_EPOCH, /* socket carries another epoch than the live one */
	WA_DROPPED_OTHER_UNIT,  /* socket carries the stamp of another unit */
	WA_DROPPED_MALFORMED,   /* neither IPv4 nor IPv6, or cut short */
	WA_DROPPED_NO_WIRE,     /* the device is not known to have a judge of its own */
	WA_DROPPED_AT_WIRE,     /* passed, then waited for the device until its tenure was over */
	WA_REFUSED_SOCKET,      /* socket(): a raw socket, or the kernel had no room for the stamp */
	WA_REFUSED_CONNECT,     /* connect(): no live tenure, or a second stamp */
	WA_REFUSED_SEND,        /* sendto(): no live tenure, or a socket that was never connected */
	WA_REFUSED_FOREIGN,     /* connect() or sendto(): the socket was not made in this unit */
	WA_REASONS,
};

#endif
