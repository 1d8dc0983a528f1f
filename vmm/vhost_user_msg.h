/*
 * vhost_user_msg.h - messages of the vhost-user protocol as they cross the socket (QEMU's
 * docs/interop/vhost-user.rst): a header, then `size` bytes of payload; little-endian, since both
 * ends are on this host.
 */
#ifndef HUSK_VMM_VHOST_USER_MSG_H
#define HUSK_VMM_VHOST_USER_MSG_H

#include <stdint.h>

#include "vmm/mem.h"

enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_RESET_DEVICE = 34,
};

#define VU_BACKEND_CONFIG_CHANGE 2 /* on the back end's own channel */

#define VU_VERSION 1u
#define VU_VERSION_MASK 3u
#define VU_FLAG_REPLY 4u
#define VU_FLAG_NEED_REPLY 8u

#define VU_F_PROTOCOL_FEATURES 30 /* a bit beside the device's features */
#define VU_PF_MQ 0
#define VU_PF_REPLY_ACK 3
#define VU_PF_BACKEND_REQ 5
#define VU_PF_CONFIG 9
#define VU_PF_RESET_DEVICE 13

#define VU_VRING_INDEX 0xffu
#define VU_VRING_NOFD 0x100u

#define VU_CONFIG_MAX 256
#define VU_FDS_MAX MEM_REGIONS_MAX /* at most FDS_MAX */

struct vu_header {
	uint32_t request, flags, size;
};

struct vu_vring_state {
	uint32_t index, num;
};

struct vu_vring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

struct vu_mem_region {
	uint64_t gpa, size, user, offset;
};

struct vu_mem_table {
	uint32_t n, padding;
	struct vu_mem_region region[MEM_REGIONS_MAX];
};

struct vu_config {
	uint32_t offset, size, flags;
	uint8_t data[VU_CONFIG_MAX];
};

#define VU_CONFIG_HEADER offsetof(struct vu_config, data)

union vu_payload {
	uint64_t u64;
	struct vu_vring_state state;
	struct vu_vring_addr addr;
	struct vu_mem_table mem;
	struct vu_config config;
};

#endif
