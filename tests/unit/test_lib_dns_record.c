/* Records of the name server's stream: whole ones, parts of one, and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "lib/dns_record.h"

static size_t make(uint8_t *buf, uint32_t id, uint8_t protocol, uint16_t len)
{
	dns_record_head(buf, id, protocol, len);
	memset(buf + DNS_RECORD_HEAD, 0xa5, len);
	return DNS_RECORD_HEAD + (size_t)len;
}

static void a_record_is_read_back(void **state)
{
	static uint8_t buf[DNS_RECORD_MAX];
	static const uint16_t lengths[] = {DNS_MESSAGE_MIN, 512, DNS_MESSAGE_MAX};
	struct dns_record r;

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t n = make(buf, 0x89abcdef, DNS_TCP, lengths[i]);

		assert_int_equal(dns_record_parse(buf, n, &r, NULL), n);
		assert_int_equal(r.id, 0x89abcdef);
		assert_int_equal(r.protocol, DNS_TCP);
		assert_int_equal(r.len, lengths[i]);
		assert_ptr_equal(r.message, buf + DNS_RECORD_HEAD);
	}
}

static void a_part_of_a_record_waits_for_the_rest(void **state)
{
	uint8_t buf[64];
	struct dns_record r;
	size_t n = make(buf, 1, DNS_UDP, 20);

	(void)state;
	for (size_t i = 0; i < n; i++)
		assert_int_equal(dns_record_parse(buf, i, &r, NULL), 0);
	assert_int_equal(dns_record_parse(buf, sizeof(buf), &r, NULL), n);
}

static void refused(uint8_t *buf, size_t n, const char *why)
{
	struct error err = ERROR_INIT;
	struct dns_record r;

	assert_int_equal(dns_record_parse(buf, n, &r, &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
	assert_non_null(strstr(err.msg, why));
}

static void what_is_no_record_ends_the_stream(void **state)
{
	uint8_t buf[64];

	(void)state;
	make(buf, 1, 1, 20);
	refused(buf, sizeof(buf), "protocol 1");
	make(buf, 1, DNS_UDP, 20);
	buf[5] = 1;
	refused(buf, DNS_RECORD_HEAD, "byte 5");
	make(buf, 1, DNS_UDP, DNS_MESSAGE_MIN - 1);
	refused(buf, DNS_RECORD_HEAD, "11 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_is_read_back),
		cmocka_unit_test(a_part_of_a_record_waits_for_the_rest),
		cmocka_unit_test(what_is_no_record_ends_the_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
