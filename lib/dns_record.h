/*
 * dns_record.h - the records of the name server's stream between agent and proxy (docs/network.md,
 * "Name server"): a header of DNS_RECORD_HEAD bytes, then the DNS message.
 *
 *	0  id, 4 bytes big-endian: the agent's choice, comes back with the answer
 *	4  protocol: DNS_UDP or DNS_TCP
 *	5  zero
 *	6  length of the message, 2 bytes big-endian: 12 (a DNS header) or more
 */
#ifndef HUSK_LIB_DNS_RECORD_H
#define HUSK_LIB_DNS_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

#define DNS_RECORD_HEAD 8
#define DNS_MESSAGE_MIN 12
#define DNS_MESSAGE_MAX 65535
#define DNS_RECORD_MAX (DNS_RECORD_HEAD + DNS_MESSAGE_MAX)

/* What a stream and a server that serves it bear at one time; more requests are dropped, as a name
 * server would. */
#define DNS_OPEN_MAX 256
#define DNS_TIMEOUT_MS 10000

#define DNS_TCP 6
#define DNS_UDP 17

struct dns_record {
	uint32_t id;
	uint8_t protocol;
	const uint8_t *message; /* in the bytes that were parsed */
	uint16_t len;
};

/* The record at the start of `len` bytes that came. Returns its whole length (head included), 0 if
 * more bytes are needed, -1 (ERR_PEER) if it is none: the stream cannot be read any further. */
int dns_record_parse(const uint8_t *buf, size_t len, struct dns_record *r, struct error *err);

/* The head of a record with these members; its message is to follow. */
void dns_record_head(uint8_t head[DNS_RECORD_HEAD], uint32_t id, uint8_t protocol, uint16_t len);

#endif
