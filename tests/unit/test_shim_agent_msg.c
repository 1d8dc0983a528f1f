/* Messages of the guest's agent: typed, bounded, never trusted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/agent_msg.h"
#include "tests/unit/oci_text.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

/* `text` has single quotes for double ones. */
static int parse(const char *text, struct agent_msg *m, struct error *err)
{
	cleanup_free char *q = quoted(text);

	return agent_msg_parse(q, strlen(q), m, err);
}

static void refused(const char *text)
{
	struct error err = ERROR_INIT;
	struct agent_msg m;

	if (parse(text, &m, &err) == 0)
		fail_msg("accepted: %s", text);
	assert_int_equal(err.kind, ERR_PEER);
	assert_non_null(strstr(err.msg, "the agent sent a bad message"));
}

static void figures(void **state)
{
	cleanup_agent_msg struct agent_msg m = {0};

	(void)state;
	assert_int_equal(
		parse("{'seq':3,'ok':true,'cpus':2,'memory':1000,'stats':{'pids':{'current':"
		      "5},'network_interfaces':null}}",
		      &m, NULL),
		0);
	assert_non_null(m.stats);
	assert_int_equal(m.stats->pids, 5);
	assert_int_equal(m.guest_cpus, 2);
	assert_int_equal(m.guest_memory, 1000);
	refused("{'seq':3,'ok':true,'stats':{'pids':{'current':-1}}}");
	refused("{'seq':3,'ok':true,'stats':[]}");
}

static void created(void **state)
{
	cleanup_agent_msg struct agent_msg m = {0};

	(void)state;
	assert_int_equal(parse("{'seq':3,'ok':true,'pid':7,'process':'','streams':{'stdin':'" TOKEN
			       "','stdout':'" TOKEN "','stderr':'" TOKEN "'}}",
			       &m, NULL),
			 0);
	assert_int_equal(m.seq, 3);
	assert_int_equal(m.pid, 7);
	assert_false(m.failed || m.has_status);
	assert_string_equal(m.token[STREAM_STDIN], TOKEN);
	assert_string_equal(m.token[STREAM_STDERR], TOKEN);
	assert_string_equal(m.token[STREAM_CONSOLE], "");
}

static void a_changeset_and_a_push(void **state)
{
	cleanup_agent_msg struct agent_msg m = {0};

	(void)state;
	assert_int_equal(parse("{'seq':3,'ok':true,'stream':'" TOKEN "'}", &m, NULL), 0);
	assert_string_equal(m.stream, TOKEN);
	assert_string_equal(m.result, "");
	assert_int_equal(parse("{'seq':3,'ok':true,'stream':'" TOKEN "','result':'" TOKEN "'}", &m,
			       NULL),
			 0);
	assert_string_equal(m.result, TOKEN);
	refused("{'seq':3,'ok':true,'stream':'x'}");
	refused("{'seq':3,'ok':true,'stream':'" TOKEN "','result':'" TOKEN "0'}");
}

static void a_project_changed(void **state)
{
	cleanup_agent_msg struct agent_msg m = {0};

	(void)state;
	assert_int_equal(parse("{'event':'changed','container':'c','name':'p-1.x'}", &m, NULL), 0);
	assert_int_equal(m.seq, -1);
	assert_string_equal(m.event, "changed");
	assert_string_equal(m.container, "c");
	assert_string_equal(m.name, "p-1.x");
	refused("{'event':'changed','container':'c','name':'../x'}");
	refused("{'event':'changed','container':'c','name':'..'}");
	refused("{'event':'changed','container':'c','name':'01234567890123456789012345678901234567"
		"890123456789012345678901234567890123456789'}");
}

static void ended(void **state)
{
	cleanup_agent_msg struct agent_msg m = {0};

	(void)state;
	assert_int_equal(
		parse("{'seq':9,'ok':true,'status':137,'signal':9,'oom':true,'killed':true}", &m,
		      NULL),
		0);
	assert_true(m.has_status && m.oom && m.killed);
	assert_int_equal(m.status, 137);
	assert_int_equal(m.signal, 9);
}

static void refusal(void **state)
{
	cleanup_agent_msg struct agent_msg m = {0};

	(void)state;
	assert_int_equal(parse("{'seq':1,'error':{'kind':'cmd_not_found','message':'exec: x\\ny'}}",
			       &m, NULL),
			 0);
	assert_true(m.failed);
	assert_int_equal(m.error.kind, ERR_CMD_NOT_FOUND);
	assert_string_equal(m.error.msg, "exec: x y"); /* one line, whatever the guest says */
	assert_int_equal(parse("{'seq':1,'error':{}}", &m, NULL), 0);
	assert_true(m.failed && m.error.msg[0]);
}

static void greeting_and_event(void **state)
{
	struct agent_msg m;

	(void)state;
	assert_int_equal(parse("{'seq':1,'ok':true,'kernel':'6.12','times_us':{'kernel':140000,"
			       "'agent':145000}}",
			       &m, NULL),
			 0);
	assert_string_equal(m.kernel, "6.12");
	assert_int_equal(m.boot_kernel_us, 140000);
	assert_int_equal(m.boot_agent_us, 145000);
	assert_int_equal(parse("{'event':'oom','container':'c'}", &m, NULL), 0);
	assert_int_equal(m.seq, -1);
	assert_string_equal(m.event, "oom");
}

static void process_list(void **state)
{
	cleanup_agent_msg struct agent_msg m = {0};

	(void)state;
	assert_int_equal(parse("{'seq':2,'ok':true,'processes':[{'pid':1,'ppid':0,'uid':0,"
			       "'user':'root','cmd':'sh','process':''},{'pid':5},'?']}",
			       &m, NULL),
			 0);
	assert_int_equal(m.n_ps, 3);
	assert_int_equal(m.ps[0].pid, 1);
	assert_string_equal(m.ps[0].user, "root");
	assert_string_equal(m.ps[0].process, "");
	assert_null(m.ps[1].process);
	assert_string_equal(m.ps[1].cmd, "");
	assert_string_equal(m.ps[2].tty, "");
}

static void not_a_message(void **state)
{
	(void)state;
	refused("");
	refused("[]");
	refused("7");
	refused("{'seq':1");
}

static void bad_tokens(void **state)
{
	(void)state;
	refused("{'streams':{'stdin':''}}");
	refused("{'streams':{'stdin':'" TOKEN "0'}}");
	refused("{'streams':{'console':'0123456789ABCDEF0123456789abcdef'}}");
	refused("{'streams':{'stdout':'../456789abcdef0123456789abcdef0'}}");
}

static void bad_status(void **state)
{
	(void)state;
	refused("{'seq':1,'status':256}");
	refused("{'seq':1,'status':-1}");
	refused("{'seq':1,'status':'0'}");
	refused("{'seq':1,'status':1,'signal':128}");
	refused("{'seq':1,'status':1,'signal':-9}");
}

static void too_long(void **state)
{
	char long_name[200], *text;

	(void)state;
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	text = xasprintf("{'event':'%s'}", long_name);
	refused(text);
	free(text);
	text = xasprintf("{'seq':1,'process':'%s'}", long_name);
	refused(text);
	free(text);
	text = xasprintf("{'seq':1,'kernel':'%s'}", long_name);
	refused(text);
	free(text);
}

static void process_list_of_another_type(void **state)
{
	(void)state;
	refused("{'processes':{}}");
	refused("{'processes':7}");
}

static void other_types_count_as_absent(void **state)
{
	struct agent_msg m;

	(void)state;
	assert_int_equal(parse("{'seq':'1','pid':'x','process':5,'event':[],'streams':7,"
			       "'times_us':3}",
			       &m, NULL),
			 0);
	assert_int_equal(m.seq, -1);
	assert_int_equal(m.pid, 0);
	assert_string_equal(m.process, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(figures),
		cmocka_unit_test(created),
		cmocka_unit_test(a_changeset_and_a_push),
		cmocka_unit_test(a_project_changed),
		cmocka_unit_test(ended),
		cmocka_unit_test(refusal),
		cmocka_unit_test(greeting_and_event),
		cmocka_unit_test(process_list),
		cmocka_unit_test(not_a_message),
		cmocka_unit_test(bad_tokens),
		cmocka_unit_test(bad_status),
		cmocka_unit_test(too_long),
		cmocka_unit_test(process_list_of_another_type),
		cmocka_unit_test(other_types_count_as_absent),
	};

	return cmocka_run_group_tests_name("agent_msg", tests, NULL, NULL);
}
