#include "lib/dns_record.h"

int dns_record_parse(const uint8_t *buf, size_t len, struct dns_record *r, struct error *err)
{
	size_t whole;

	if (len < DNS_RECORD_HEAD)
		return 0;
	*r = (struct dns_record){
		.id = (uint32_t)buf[0] << 24 | (uint32_t)buf[1] << 16 | (uint32_t)buf[2] << 8 |
		      buf[3],
		.protocol = buf[4],
		.len = (uint16_t)(buf[6] << 8 | buf[7]),
		.message = buf + DNS_RECORD_HEAD,
	};
	if (r->protocol != DNS_UDP && r->protocol != DNS_TCP)
		return error_kind(err, ERR_PEER, "name server's stream: protocol %u", r->protocol);
	if (buf[5] != 0)
		return error_kind(err, ERR_PEER, "name server's stream: byte 5 is not zero");
	if (r->len < DNS_MESSAGE_MIN)
		return error_kind(err, ERR_PEER, "name server's stream: a message of %u bytes",
				  r->len);
	whole = DNS_RECORD_HEAD + (size_t)r->len;
	return len < whole ? 0 : (int)whole;
}

void dns_record_head(uint8_t head[DNS_RECORD_HEAD], uint32_t id, uint8_t protocol, uint16_t len)
{
	head[0] = (uint8_t)(id >> 24);
	head[1] = (uint8_t)(id >> 16);
	head[2] = (uint8_t)(id >> 8);
	head[3] = (uint8_t)id;
	head[4] = protocol;
	head[5] = 0;
	head[6] = (uint8_t)(len >> 8);
	head[7] = (uint8_t)len;
}
