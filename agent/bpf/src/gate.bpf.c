// SPDX-License-Identifier: Apache-2.0
/* The gate: no packet of a coreapp's unit to a gated destination without a live tenure.
 * Decides by what it finds in its maps; keeps no state of its own but the stamps of sockets.
 *
 * wa_egress    judges every packet of every socket that was made in the slice.
 * wa_wire      judges again what passed under a tenure, at the device: between the two a packet may wait for seconds.
 * wa_born      marks every such socket with the unit that made it; refuses raw sockets.
 * wa_connect*  stamp the socket with the live epoch, once; refuse without one.
 * wa_sendmsg*  refuse datagrams to gated destinations from sockets that carry no live stamp.
 *
 * wa_egress and wa_born are attached to the slice. The kernel runs cgroup hooks by the cgroup in which a *socket* was
 * made, not by that of the task that uses it. A socket from outside, used inside, would meet no hook of the slice; so the
 * others are attached to the root of the hierarchy, ask for the task, and let pass whatever is not in the slice.
 *
 * wa_wire is attached to the egress of every device. The cgroup hook comes before the queue in which packets wait for the
 * address of their neighbour (ARP, neighbour discovery): what waits there while a cable is pulled leaves when it is back.
 * wa_egress lets nothing of a tenure go to a device of which it does not know that wa_wire is there.
 *
 * Structures of the user API only: one object for every kernel from 5.15 on. The NAIVE_* switches take single guards
 * out for the tests, each of which must then find its hole. No shipped object has one. */

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "gate.h"

#define UNITS_MAX 1024
#define NETWORKS_MAX 1024
#define DEVICES_MAX 4096
#define LEVELS_MAX 24 /* depth of cgroups that is looked at */
#define SOCK_STREAM 1
#define SOCK_DGRAM 2

#define IP_HEADER 20
#define IP6_HEADER 40
#define TCP_HEADER 20
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04

struct unit_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	/* By size: clang may leave the type of what is only pointed at undefined. */
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct wa_unit));
};

/* Cgroup id -> the unit's own map. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, UNITS_MAX);
	__type(key, __u64);
	__type(value, __u32);
	__array(values, struct unit_map);
} wa_units SEC(".maps");

/* Cgroup id -> lowest epoch that may still live. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, UNITS_MAX);
	__type(key, __u64);
	__type(value, __u64);
} wa_seals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wa_place);
} wa_place SEC(".maps");

/* Index of a device -> 1: wa_wire is at its egress, or it is a loopback device and needs none. Written by the host agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DEVICES_MAX);
	__type(key, __u32);
	__type(value, __u8);
} wa_wires SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, NETWORKS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct wa_net4);
	__type(value, __u8);
} wa_exempt4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, NETWORKS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct wa_net6);
	__type(value, __u8);
} wa_exempt6 SEC(".maps");

/* Not cloned into accepted sockets: those were never connected by us. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct wa_stamp);
} wa_stamps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WA_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} wa_counts SEC(".maps");

static __always_inline void count(__u32 reason)
{
	__u64 *counter = bpf_map_lookup_elem(&wa_counts, &reason);

	if (counter)
		*counter += 1;
}

static __always_inline int refuse(__u32 reason)
{
	count(reason);
	return 0;
}

#define read_once(x) (*(volatile __typeof__(x) *)&(x))

/* Loads are not moved past this. On x86 loads stay in order by themselves; elsewhere an atomic that returns its old
 * value is a full barrier, and one on the stack costs no cache line of the coreapp's. */
static __always_inline __attribute__((unused)) void loads_in_order(void)
{
#if defined(__TARGET_ARCH_x86)
	asm volatile("" ::: "memory");
#else
	__u64 fence = 0;

	__sync_fetch_and_add(&fence, 0);
	asm volatile("" : : "r"(&fence) : "memory");
#endif
}

/* Tests widen the moment between two reads, in the naive program and in the real one alike. */
static __always_inline void dawdle(void)
{
#ifdef WIDEN
	for (int i = 0; i < 32; i++)
		bpf_ktime_get_boot_ns();
#endif
}

/* WA_PASSED_TENURE and the unit's live epoch, or why there is none. */
static __always_inline __u32 live(__u64 cgroup, __u64 *epoch)
{
#ifdef NAIVE_SHARED
	cgroup = 0; /* one entry for all units */
#endif
	__u32 zero = 0;
	void *own = bpf_map_lookup_elem(&wa_units, &cgroup);
	__u64 *seal = bpf_map_lookup_elem(&wa_seals, &cgroup);
	struct wa_place *place = bpf_map_lookup_elem(&wa_place, &zero);

	if (!own || !seal || !place)
		return WA_DROPPED_NO_UNIT;

	struct wa_unit *unit = bpf_map_lookup_elem(own, &zero);

	if (!unit)
		return WA_DROPPED_NO_UNIT;

#ifdef NAIVE_READ_ONCE
	__u64 found = read_once(unit->epoch);
	dawdle();
	__u64 deadline = read_once(unit->deadline_ns);
	__u64 again = deadline;
#else
	/* The writer goes by deadline 0, epoch, deadline: the same deadline on both sides of the epoch belongs to it. */
	__u64 deadline = read_once(unit->deadline_ns);
	loads_in_order();
	dawdle();
	__u64 found = read_once(unit->epoch);
	loads_in_order();
	dawdle();
	__u64 again = read_once(unit->deadline_ns);
#endif
	__u64 now = bpf_ktime_get_boot_ns();

	if (deadline != again)
		return WA_DROPPED_TORN;
	if (!deadline)
		return WA_DROPPED_NO_TENURE;
	if (now >= deadline)
		return WA_DROPPED_LAPSED;
	if (deadline - now > place->max_ttl_ns)
		return WA_DROPPED_TOO_FAR;
	if (!found || found < read_once(*seal))
		return WA_DROPPED_SEALED;
	*epoch = found;
	return WA_PASSED_TENURE;
}

static __always_inline struct wa_stamp *stamp_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&wa_stamps, sk, 0, 0) : 0;
}

/* Whether the socket of this packet carries the live epoch of the unit that it belongs to. */
static __always_inline __u32 tenure(struct __sk_buff *skb)
{
	__u64 cgroup = bpf_skb_cgroup_id(skb);
	__u64 epoch = 0;
#ifdef NAIVE_NO_STAMP
	return live(cgroup, &epoch);
#else
	struct wa_stamp *stamp = stamp_of(skb);
#ifdef NAIVE_CLAIM
	/* The first packet claims the epoch. */
	struct bpf_sock *sk = skb->sk;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (sk && (!stamp || !stamp->epoch)) {
		struct wa_stamp fresh = { .unit = cgroup };

		if (live(cgroup, &fresh.epoch) == WA_PASSED_TENURE) {
			stamp = bpf_sk_storage_get(&wa_stamps, sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
			if (stamp)
				stamp->epoch = fresh.epoch;
		}
	}
#endif
	if (!stamp || !stamp->epoch)
		return WA_DROPPED_UNSTAMPED;
#ifndef NAIVE_SHARED
	if (stamp->unit != cgroup)
		return WA_DROPPED_OTHER_UNIT;
#endif

	__u32 reason = live(cgroup, &epoch);

	if (reason != WA_PASSED_TENURE)
		return reason;
	return stamp->epoch == epoch ? WA_PASSED_TENURE : WA_DROPPED_OTHER_EPOCH;
#endif
}

static __always_inline int exempt4(__u32 address)
{
	struct wa_net4 key = { .prefix = 32 };

	__builtin_memcpy(key.address, &address, sizeof(key.address));
	return bpf_map_lookup_elem(&wa_exempt4, &key) != 0;
}

static __always_inline int exempt6(const __u32 *address)
{
	struct wa_net6 key = { .prefix = 128 };

	__builtin_memcpy(key.address, address, sizeof(key.address));
	return bpf_map_lookup_elem(&wa_exempt6, &key) != 0;
}

/* The packet from its IP header on, at the slice and at a device alike. */
static __always_inline long load(struct __sk_buff *skb, __u32 at, void *to, __u32 length)
{
	return bpf_skb_load_bytes_relative(skb, at, to, length, BPF_HDR_START_NET);
}

/* A reset that carries nothing: `at` is where the TCP header starts, the packet ends with it. Its length stands at
 * `length_at`, without `uncounted` bytes of the IP header. */
static __always_inline int bare_reset(struct __sk_buff *skb, __u64 at, __u32 length_at, __u32 uncounted)
{
#ifdef NAIVE_NO_RST
	return 0;
#endif
	__u8 tcp[TCP_HEADER];
	__be16 length;

	if (load(skb, at, tcp, sizeof(tcp)))
		return 0;
	if ((tcp[13] & (TCP_RST | TCP_SYN | TCP_FIN)) != TCP_RST)
		return 0;
	at += (tcp[12] >> 4) * 4;
	/* All 64 bits, now: half a slot of the stack, written over what was a pointer, makes the verifier refuse a host agent
	 * without CAP_PERFMON. */
	asm volatile("" : "+r"(at));
	if (load(skb, length_at, &length, sizeof(length)))
		return 0;
	return bpf_ntohs(length) + uncounted == at;
}

static __always_inline __u32 judge4(struct __sk_buff *skb, __u32 reason)
{
	__u8 ip[IP_HEADER];
	__u32 address;

	if (load(skb, 0, ip, sizeof(ip)))
		return WA_DROPPED_MALFORMED;
	__builtin_memcpy(&address, ip + 16, sizeof(address));
	if (exempt4(address))
		return WA_PASSED_EXEMPT;
	/* No fragment but a whole packet: neither an offset nor more to come. */
	if (ip[9] == IPPROTO_TCP && !(ip[6] & 0x3f) && !ip[7] &&
	    bare_reset(skb, (ip[0] & 0xf) * 4, 2, 0))
		return WA_PASSED_RST;
	return reason;
}

static __always_inline __u32 judge6(struct __sk_buff *skb, __u32 reason)
{
	__u8 ip[IP6_HEADER];
	__u32 address[4];

	if (load(skb, 0, ip, sizeof(ip)))
		return WA_DROPPED_MALFORMED;
	__builtin_memcpy(address, ip + 24, sizeof(address));
	if (exempt6(address))
		return WA_PASSED_EXEMPT;
	/* A reset behind extension headers does not pass: the peer learns by its own timers. */
	if (ip[6] == IPPROTO_TCP && bare_reset(skb, IP6_HEADER, 4, IP6_HEADER))
		return WA_PASSED_RST;
	return reason;
}

/* What becomes of a packet that no tenure lets pass, for `reason`. */
static __always_inline __u32 judge(struct __sk_buff *skb, __u32 reason)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return judge4(skb, reason);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return judge6(skb, reason);
	return WA_DROPPED_MALFORMED;
}

SEC("cgroup_skb/egress")
int wa_egress(struct __sk_buff *skb)
{
#ifdef NAIVE_OPEN
	return 1; /* what a test run costs by itself */
#endif
	__u32 device = skb->ifindex;
	__u32 reason = tenure(skb);

	if (reason == WA_PASSED_TENURE && !bpf_map_lookup_elem(&wa_wires, &device))
		reason = WA_DROPPED_NO_WIRE;
	if (reason != WA_PASSED_TENURE)
		reason = judge(skb, reason);
	count(reason);
	return reason <= WA_PASSED_RST;
}

/* Sockets of others carry no stamp, and those that never needed a tenure no epoch: wa_egress has judged them for good.
 * Nothing that passes is counted: it was. What others have attached behind this goes on to decide. */
SEC("classifier")
int wa_wire(struct __sk_buff *skb)
{
#ifdef NAIVE_NO_WIRE
	return TC_ACT_UNSPEC;
#endif
	struct wa_stamp *stamp = stamp_of(skb);
	__u64 epoch = 0;

	if (!stamp || !stamp->epoch)
		return TC_ACT_UNSPEC;
	if (live(stamp->unit, &epoch) == WA_PASSED_TENURE && epoch == stamp->epoch)
		return TC_ACT_UNSPEC;
	if (judge(skb, WA_DROPPED_AT_WIRE) <= WA_PASSED_RST)
		return TC_ACT_UNSPEC;
	count(WA_DROPPED_AT_WIRE);
	return TC_ACT_SHOT;
}

SEC("cgroup/sock_create")
int wa_born(struct bpf_sock *sk)
{
	struct wa_stamp fresh = { .unit = bpf_get_current_cgroup_id() };

	if (sk->type != SOCK_STREAM && sk->type != SOCK_DGRAM)
		return refuse(WA_REFUSED_SOCKET);
	if (!bpf_sk_storage_get(&wa_stamps, sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE))
		return refuse(WA_REFUSED_SOCKET);
	return 1;
}

/* The task that calls is in the slice or below it. The slice's depth differs between machines and containers. */
static __always_inline int inside(void)
{
	__u32 zero = 0;
	struct wa_place *place = bpf_map_lookup_elem(&wa_place, &zero);

	if (!place || !place->slice)
		return 0;
	/* Unrolled: without CAP_PERFMON, which the host agent does not have, the verifier does not see the loop's end. */
#pragma unroll
	for (int level = 0; level < LEVELS_MAX; level++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);

		if (!id)
			return 0;
		if (id == place->slice)
			return 1;
	}
	return 0;
}

/* A call that names a gated destination. `stamp`: connect(), which may stamp the socket. */
static __always_inline int reach(struct bpf_sock_addr *call, int stamp)
{
	__u64 cgroup = bpf_get_current_cgroup_id();
	__u32 refused = stamp ? WA_REFUSED_CONNECT : WA_REFUSED_SEND;
	struct wa_stamp *carried = 0;
	__u64 epoch = 0;

	if (call->sk)
		carried = bpf_sk_storage_get(&wa_stamps, call->sk, 0, 0);
#ifdef NAIVE_NO_BIRTH
	if (!carried)
		return 1;
#endif
	if (!carried || carried->unit != cgroup)
		return refuse(WA_REFUSED_FOREIGN);
	if (live(cgroup, &epoch) != WA_PASSED_TENURE)
		return refuse(refused);
	if (stamp && !carried->epoch)
		carried->epoch = epoch;
	return carried->epoch == epoch ? 1 : refuse(refused);
}

static __always_inline int reach4(struct bpf_sock_addr *call, int stamp)
{
	if (!inside() || exempt4(call->user_ip4))
		return 1;
	return reach(call, stamp);
}

static __always_inline int reach6(struct bpf_sock_addr *call, int stamp)
{
	__u32 address[4];

	if (!inside())
		return 1;
	address[0] = call->user_ip6[0];
	address[1] = call->user_ip6[1];
	address[2] = call->user_ip6[2];
	address[3] = call->user_ip6[3];

	/* ::ffff:a.b.c.d leaves as IPv4. */
	int mapped = !address[0] && !address[1] && address[2] == bpf_htonl(0xffff);

	if (mapped ? exempt4(address[3]) : exempt6(address))
		return 1;
	return reach(call, stamp);
}

SEC("cgroup/connect4")
int wa_connect4(struct bpf_sock_addr *call)
{
	return reach4(call, 1);
}

SEC("cgroup/connect6")
int wa_connect6(struct bpf_sock_addr *call)
{
	return reach6(call, 1);
}

SEC("cgroup/sendmsg4")
int wa_sendmsg4(struct bpf_sock_addr *call)
{
	return reach4(call, 0);
}

SEC("cgroup/sendmsg6")
int wa_sendmsg6(struct bpf_sock_addr *call)
{
	return reach6(call, 0);
}

char LICENSE[] SEC("license") = "Apache-2.0";
