/* The agent's server, processes and streams as a whole, on this host (agent_server.h). */
#include "tests/unit/agent_server.h"

static void test_hello(void **state)
{
	int fd = dial_control(*state);
	yajl_val v;

	ask(fd, "{\"seq\":7,\"op\":\"hello\"}");
	v = hear(fd);
	assert_int_equal(json_int(v, "seq", -1), 7);
	assert_int_equal(json_int(v, "version", -1), 1);
	assert_int_equal(json_int(json_get(v, "times_us"), "agent", -1), 2000);
	yajl_tree_free(v);
	close(fd);
}

static void test_run_gives_output_and_status(void **state)
{
	int fd = dial_control(*state);
	struct io io =
		run(*state, fd, CREATE(1, "c", PROCESS("", "echo out; echo err >&2; exit 3")), "c");

	expect_output(io.out, "out\n");
	expect_output(io.err, "err\n");
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 3, 0);
	ask(fd, OP(4, "wait", "c")); /* and again */
	hear_status(fd, 4, 3, 0);
	ask(fd, OP(5, "delete", "c"));
	hear_ok(fd, 5);
	ask(fd, OP(6, "wait", "c"));
	hear_error(fd, 6, "not_found", "does not exist");
	io_close(&io);
	close(fd);
}

static void test_nothing_runs_before_start(void **state)
{
	int fd = dial_control(*state);
	struct io io = create(*state, fd, CREATE(1, "c", PROCESS("", "echo x")));
	struct pollfd p = {.fd = io.out, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 50), 0);
	ask(fd, OP(2, "start", "c"));
	hear_ok(fd, 2);
	expect_output(io.out, "x\n");
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 0, 0);
	ask(fd, OP(4, "start", "c"));
	hear_error(fd, 4, "not_running", "has stopped");
	io_close(&io);
	close(fd);
}

static void test_stdin_ends_when_the_host_shuts_it(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "cat; echo end")), "c");

	assert_int_equal(write(io.in, "abc\n", 4), 4);
	shutdown(io.in, SHUT_WR);
	expect_output(io.out, "abc\nend\n");
	io_close(&io);
	close(fd);
}

static void test_megabytes_pass_unchanged(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "cat")), "c");
	size_t total = 32u << 20, n;
	cleanup_free char *sent = malloc(total), *got = NULL;
	pid_t writer;

	for (size_t i = 0; i < total; i++)
		sent[i] = (char)(i * 2654435761u >> 13);
	writer = fork();
	if (writer == 0) {
		write_all(io.in, sent, total, NULL);
		_exit(0);
	}
	close_fd(&io.in);
	got = slurp(io.out, &n);
	assert_int_equal(n, total);
	assert_memory_equal(got, sent, total);
	waitpid(writer, NULL, 0);
	io_close(&io);
	close(fd);
}

static void test_an_unread_stream_stalls_no_other(void **state)
{
	int fd = dial_control(*state);
	struct io slow = run(*state, fd, CREATE(1, "slow", PROCESS("", "yes")), "slow"), io;

	for (int i = 0; i < 20; i++) {
		ask(fd, EXEC(5, "slow", PROCESS("", "head -c 300000 /dev/zero | tr '\\\\0' a")));
		io = hear_process(*state, fd, 5);
		size_t n;
		char *got = slurp(io.out, &n);

		assert_int_equal(n, 300000);
		free(got);
		ask(fd, "{\"seq\":6,\"op\":\"wait\",\"container\":\"slow\",\"process\":\"%s\"}",
		    io.name);
		hear_status(fd, 6, 0, 0);
		io_close(&io);
	}
	io_close(&slow);
	close(fd);
}

static void test_closing_a_connection_kills_its_processes(void **state)
{
	int owner = dial_control(*state), other = dial_control(*state);
	struct io io = run(*state, owner, CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c");
	struct io sub;

	ask(owner, EXEC(3, "c", PROCESS("", "exec sleep 1000")));
	sub = hear_process(*state, owner, 3);
	ask(other, OP(1, "wait", "c"));
	ask(other, "{\"seq\":2,\"op\":\"wait\",\"container\":\"c\",\"process\":\"%s\"}", sub.name);
	close(owner);
	for (int i = 0; i < 2; i++) {
		yajl_val v = hear(other);

		assert_int_equal(json_int(v, "status", -1), 137);
		yajl_tree_free(v);
	}
	/* The container's record stays, the exec'd process's does not. */
	ask(other, OP(3, "wait", "c"));
	hear_status(other, 3, 137, 9);
	ask(other, "{\"seq\":4,\"op\":\"wait\",\"container\":\"c\",\"process\":\"%s\"}", sub.name);
	hear_error(other, 4, "not_found", NULL);
	ask(other, OP(5, "kill\",\"signal\":15,\"x\":\"", "c"));
	hear_error(other, 5, "not_running", "container not running");
	ask(other, OP(6, "delete", "c"));
	hear_ok(other, 6);
	io_close(&io);
	io_close(&sub);
	close(other);
}

static void test_closing_a_connection_kills_what_was_only_created(void **state)
{
	int owner = dial_control(*state), other = dial_control(*state);
	struct io io = create(*state, owner, CREATE(1, "c", PROCESS("", "true")));

	ask(other, OP(1, "wait", "c"));
	close(owner);
	hear_status(other, 1, 137, 9);
	io_close(&io);
	close(other);
}

static void test_sigterm_ends_what_was_only_created(void **state)
{
	int fd = dial_control(*state);
	struct io io = create(*state, fd, CREATE(1, "c", PROCESS("", "true")));

	ask(fd, OP(2, "kill\",\"signal\":15,\"x\":\"", "c"));
	hear_ok(fd, 2);
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 137, 9);
	ask(fd, OP(4, "start", "c"));
	hear_error(fd, 4, "not_running", "has stopped");
	io_close(&io);
	close(fd);
}

static void test_signals_reach_the_process(void **state)
{
	int fd = dial_control(*state);
	struct io io =
		run(*state, fd,
		    CREATE(1, "c",
			   PROCESS("", "trap 'exit 5' USR1; echo up; while :; do sleep 0.01; "
				       "done")),
		    "c");
	char up[3];

	assert_int_equal(recv(io.out, up, 3, MSG_WAITALL), 3);
	ask(fd, OP(3, "wait", "c"));
	ask(fd, OP(4, "kill\",\"signal\":10,\"x\":\"", "c"));
	hear_ok(fd, 4);
	hear_status(fd, 3, 5, 0);
	io_close(&io);
	close(fd);
}

static void test_failed_create_and_exec(void **state)
{
	int fd = dial_control(*state);
	struct io io;

	for (int i = 0; i < 2; i++) {
		ask(fd, CREATE(1, "c",
			       "{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0},\"args\":["
			       "\"/nonexistent\"]}"));
		hear_error(fd, 1, "cmd_not_found", "/nonexistent");
	}
	io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c");
	ask(fd, EXEC(3, "c",
		     "{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"/nonexistent\"]}"));
	hear_error(fd, 3, "cmd_not_found", "/nonexistent");
	ask(fd, CREATE(4, "c", PROCESS("", "true")));
	hear_error(fd, 4, "exists", NULL);
	io_close(&io);
	close(fd);
}

static void test_streams_end_with_an_execd_process(void **state)
{
	int fd = dial_control(*state);
	struct io init = run(*state, fd, CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c"), io;

	ask(fd, EXEC(3, "c", PROCESS("", "echo first; sleep 1000 & exit 4")));
	io = hear_process(*state, fd, 3);
	expect_output(io.out, "first\n");
	ask(fd, OP(4, "wait\",\"process\":\"1", "c"));
	hear_status(fd, 4, 4, 0);
	io_close(&io);
	io_close(&init);
	close(fd);
}

static void test_output_waits_to_be_fetched(void **state)
{
	int fd = dial_control(*state), out;
	yajl_val v;
	char token[64];

	ask(fd, CREATE(1, "c", PROCESS("", "echo late")));
	v = hear(fd);
	snprintf(token, sizeof(token), "%s", json_str(json_get(v, "streams"), "stdout"));
	yajl_tree_free(v);
	ask(fd, OP(2, "start", "c"));
	hear_ok(fd, 2);
	ask(fd, OP(3, "wait", "c"));
	/* Its end is known when signals do not reach it any more. */
	for (bool ended = false; !ended;) {
		ask(fd, OP(4, "kill\",\"signal\":18,\"x\":\"", "c"));
		v = hear(fd);
		assert_int_equal(json_int(v, "seq", -1), 4);
		ended = !json_bool(v, "ok", false);
		yajl_tree_free(v);
	}
	out = dial_stream(*state, token);
	expect_output(out, "late\n");
	hear_status(fd, 3, 0, 0);
	close(out);
	out = dial_stream(*state, token); /* valid once */
	hear_closed(out);
	close(out);
	close(fd);
}

static void test_wait_needs_no_stream_without_output(void **state)
{
	int fd = dial_control(*state);

	ask(fd, CREATE(1, "c", PROCESS("", "exit 6")));
	yajl_tree_free(hear(fd));
	ask(fd, OP(2, "start", "c"));
	hear_ok(fd, 2);
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 6, 0);
	close(fd);
}

static void test_a_closed_stream_is_a_broken_pipe(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec yes")), "c");
	char c;

	assert_int_equal(recv(io.out, &c, 1, 0), 1);
	close_fd(&io.out);
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 141, SIGPIPE);
	io_close(&io);
	close(fd);
}

static void test_a_half_closed_stream_still_delivers(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "sleep 0.1; echo x")), "c");

	shutdown(io.out, SHUT_WR);
	expect_output(io.out, "x\n");
	io_close(&io);
	close(fd);
}

static void test_console(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd,
			   CREATE(1, "c",
				  PROCESS("\"terminal\":true,\"consoleSize\":{\"height\":11,"
					  "\"width\":22},",
					  "stty -echo; stty size; read a; stty size; echo got $a")),
			   "c");
	char first[7];

	assert_int_equal(io.out, -1);
	assert_int_equal(recv(io.console, first, sizeof(first), MSG_WAITALL), sizeof(first));
	assert_memory_equal(first, "11 22\r\n", sizeof(first));
	ask(fd, OP(3, "resize\",\"width\":100,\"height\":50,\"x\":\"", "c"));
	hear_ok(fd, 3);
	assert_int_equal(write(io.console, "word\n", 5), 5);
	expect_output(io.console, "50 100\r\ngot word\r\n");
	ask(fd, OP(4, "wait", "c"));
	hear_status(fd, 4, 0, 0);
	io_close(&io);
	close(fd);
}

static void test_console_passes_much(void **state)
{
	int fd = dial_control(*state);
	struct io io =
		run(*state, fd,
		    CREATE(1, "c", PROCESS("\"terminal\":true,", "stty raw; seq 1 100000")), "c");
	size_t n;
	char *got = slurp(io.console, &n);

	assert_int_equal(n, 588895);
	free(got);
	io_close(&io);
	close(fd);
}

static void test_a_closed_console_hangs_up(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd,
			   CREATE(1, "c", PROCESS("\"terminal\":true,", "exec sleep 1000")), "c");

	close_fd(&io.console);
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 129, SIGHUP);
	close(fd);
}

static void test_shutdown_ends_everything(void **state)
{
	int fd = dial_control(*state), other = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "a", PROCESS("", "exec sleep 1000")), "a");
	struct io sub = create(*state, fd, CREATE(1, "b", PROCESS("", "exec sleep 1000")));

	ask(fd, OP(5, "wait", "a"));
	ask(other, "{\"seq\":1,\"op\":\"shutdown\"}");
	hear_ok(other, 1);
	hear_status(fd, 5, 137, 9);
	ask(fd, CREATE(6, "c", PROCESS("", "true")));
	hear_error(fd, 6, "not_running", "shutting down");
	io_close(&io);
	io_close(&sub);
	close(other);
	close(fd);
}

/* ---- workers */

/* The next answer says that there is no such container. */
static bool hear_not_found(int fd)
{
	cleanup_json yajl_val v = hear(fd);
	const char *kind = json_str(json_get(v, "error"), "kind");

	return kind && strcmp(kind, "not_found") == 0;
}

static void test_a_create_that_hangs_delays_nobody(void **state)
{
	int fd = dial_control(*state), other = dial_control(*state);
	struct io io;

	ask(fd, CREATE(1, "hangs", PROCESS("", "true")));
	io = run(*state, other, CREATE(1, "c", PROCESS("", "echo x")), "c");
	expect_output(io.out, "x\n");
	ask(other, OP(3, "wait", "c"));
	hear_status(other, 3, 0, 0);
	ask(other, OP(4, "start", "hangs"));
	hear_error(other, 4, "not_running", "is being made");
	ask(other, EXEC(5, "hangs", PROCESS("", "true")));
	hear_error(other, 5, "not_running", NULL);
	ask(other, OP(6, "pause", "hangs"));
	hear_error(other, 6, "not_running", NULL);
	ask(other, WHAT(7, "changes", "hangs", "root"));
	hear_error(other, 7, "not_running", "is being made");
	ask(other, OP(8, "kill\",\"signal\":10,\"x\":\"", "hangs"));
	hear_error(other, 8, "not_running", NULL);
	ask(other, OP(9, "delete", "c"));
	hear_ok(other, 9);
	ask(other, OP(10, "kill\",\"signal\":15,\"x\":\"", "hangs"));
	hear_ok(other, 10);
	hear_error(fd, 1, "not_running", "killed while it was made");
	ask(other, OP(11, "delete", "hangs"));
	hear_error(other, 11, "not_found", NULL);
	io_close(&io);
	close(fd);
	close(other);
}

static void test_a_create_that_hangs_is_deleted(void **state)
{
	int fd = dial_control(*state), other = dial_control(*state);

	ask(fd, CREATE(1, "hangs", PROCESS("", "true")));
	ask(other, CREATE(1, "hangs-2", PROCESS("", "true")));
	ask(fd, OP(2, "delete", "hangs"));
	hear_ok(fd, 2);
	hear_error(fd, 1, "not_running", NULL);
	ask(fd, OP(3, "delete", "hangs"));
	hear_error(fd, 3, "not_found", NULL);
	close(other); /* and with its connection */
	do
		ask(fd, OP(4, "delete", "hangs-2"));
	while (!hear_not_found(fd));
	close(fd);
}

static void test_a_failed_root_is_the_error_of_create(void **state)
{
	int fd = dial_control(*state);

	for (int i = 0; i < 3; i++) {
		ask(fd, CREATE(1, "no-disk", PROCESS("", "true")));
		hear_error(fd, 1, "timeout", "did not appear");
	}
	close(fd);
}

static void test_what_cannot_be_unmounted_is_told(void **state)
{
	int fd = dial_control(*state);
	struct io io =
		run(*state, fd, CREATE(1, "stays-mounted", PROCESS("", "true")), "stays-mounted");

	ask(fd, OP(3, "delete", "stays-mounted"));
	hear_error(fd, 3, "other", "umount: busy");
	io_close(&io);
	close(fd);
}

/* Nothing but that worker is left when the container is deleted. */
static void test_a_delete_ends_workers_and_waits_for_them(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "never-freezes", PROCESS("", "exec cat")),
			   "never-freezes");

	ask(fd, OP(3, "pause", "never-freezes"));
	ask(fd, OP(4, "kill\",\"signal\":9,\"x\":\"", "never-freezes"));
	hear_ok(fd, 4);
	ask(fd, OP(5, "wait", "never-freezes"));
	hear_status(fd, 5, 137, 9);
	ask(fd, OP(6, "delete", "never-freezes"));
	hear_error(fd, 3, "other", NULL);
	hear_ok(fd, 6);
	io_close(&io);
	close(fd);
}

static void test_many_containers_come_and_go_at_once(void **state)
{
	enum { N = 20 };
	int fds[N];
	struct io io[N];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N; i++) {
			fds[i] = dial_control(*state);
			ask(fds[i],
			    "{\"seq\":1,\"op\":\"create\",\"container\":\"c%d\",\"root\":{"
			    "\"lower\":[{"
			    "\"serial\":\"l\",\"type\":\"erofs\"}]},\"config\":{\"ociVersion\":\"1."
			    "2.0\","
			    "\"root\":{\"path\":\"r\"},\"process\":%s}}",
			    i, PROCESS("", "exec cat"));
		}
		for (int i = 0; i < N; i++) {
			io[i] = hear_process(*state, fds[i], 1);
			ask(fds[i], "{\"seq\":2,\"op\":\"start\",\"container\":\"c%d\"}", i);
		}
		for (int i = 0; i < N; i++) {
			hear_ok(fds[i], 2);
			ask(fds[i], "{\"seq\":3,\"op\":\"delete\",\"container\":\"c%d\"}", i);
		}
		for (int i = 0; i < N; i++) {
			hear_ok(fds[i], 3);
			io_close(&io[i]);
			close(fds[i]);
		}
	}
}

static void test_shutdown_ends_what_is_being_made(void **state)
{
	int fd = dial_control(*state), other = dial_control(*state);

	ask(other, CREATE(1, "hangs", PROCESS("", "true")));
	do
		ask(fd, OP(2, "pause", "hangs"));
	while (hear_not_found(fd));
	ask(fd, "{\"seq\":3,\"op\":\"shutdown\"}");
	hear_ok(fd, 3);
	hear_error(other, 1, "not_running", NULL);
	close(fd);
	close(other);
}

static void test_join_names_a_container_that_runs(void **state)
{
#define JOINING(seq, id, other)                                                                \
	"{\"seq\":" #seq ",\"op\":\"create\",\"container\":\"" id "\",\"root\":{\"lower\":[{"  \
	"\"serial\":\"l\",\"type\":\"erofs\"}]},\"join\":{\"ipc\":\"" other "\"},\"config\":{" \
	"\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"r\"},\"linux\":{\"namespaces\":[{"      \
	"\"type\":\"ipc\"},{\"type\":\"mount\"}]},\"process\":" PROCESS("", "true") "}}"
	int fd = dial_control(*state);
	struct io a, b;

	ask(fd, JOINING(1, "b", "a"));
	hear_error(fd, 1, "not_found", "join.ipc: container a does not exist");
	a = run(*state, fd, CREATE(1, "a", PROCESS("", "exec cat")), "a");
	ask(fd, JOINING(1, "b", "a"));
	b = hear_process(*state, fd, 1);
	close_fd(&a.in);
	ask(fd, OP(3, "wait", "a"));
	hear_status(fd, 3, 0, 0);
	ask(fd, JOINING(4, "d", "a"));
	hear_error(fd, 4, "not_running", "join.ipc: container a has ended");
	io_close(&a);
	io_close(&b);
	close(fd);
}

static void test_delete_kills(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c");

	ask(fd, OP(3, "wait", "c"));
	ask(fd, OP(4, "delete", "c"));
	hear_status(fd, 3, 137, 9);
	hear_ok(fd, 4);
	io_close(&io);
	io = run(*state, fd, CREATE(1, "c", PROCESS("", "true")), "c");
	io_close(&io);
	close(fd);
}

static void test_stats_come_with_the_guests_own_size(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "sleep 100")), "c");
	yajl_val v;

	ask(fd, OP(3, "stats", "c"));
	v = hear(fd);
	assert_int_equal(json_int(v, "seq", -1), 3);
	assert_true(json_bool(v, "ok", false));
	assert_true(json_int(v, "cpus", 0) > 0 && json_int(v, "memory", 0) > 1 << 20);
	assert_non_null(json_get(json_get(json_get(v, "stats"), "cpu"), "usage"));
	yajl_tree_free(v);
	ask(fd, OP(4, "stats", "d"));
	hear_error(fd, 4, "not_found", "does not exist");
	io_close(&io);
	close(fd);
}

static void test_pause_and_resume(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec cat")), "c");
	struct pollfd p = {.fd = io.out, .events = POLLIN};

	ask(fd, OP(3, "pause", "c"));
	hear_ok(fd, 3);
	assert_int_equal(write(io.in, "x", 1), 1);
	assert_int_equal(poll(&p, 1, 50), 0);
	ask(fd, OP(4, "resume", "c"));
	hear_ok(fd, 4);
	close_fd(&io.in);
	expect_output(io.out, "x");
	io_close(&io);
	close(fd);
}

static void test_sigkill_ends_a_process_whose_output_nobody_reads(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec yes")), "c");
	char c;

	assert_int_equal(recv(io.out, &c, 1, 0), 1);
	ask(fd, OP(3, "wait", "c"));
	ask(fd, OP(4, "kill\",\"signal\":9,\"x\":\"", "c"));
	hear_ok(fd, 4);
	hear_status(fd, 3, 137, 9);
	io_close(&io);
	close(fd);
}

static void test_a_death_in_a_start_hook_is_a_failed_start(void **state)
{
	int fd = dial_control(*state);
	struct io io = create(*state, fd,
			      CREATE(1, "c",
				     "{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0},\"args\":["
				     "\"/killed-in-a-hook\"]}"));

	ask(fd, OP(2, "start", "c"));
	hear_error(fd, 2, "other", "died before its command was executed");
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 137, 9);
	io_close(&io);
	close(fd);
}

static void test_bad_requests(void **state)
{
	static const char *const no_answer[] = {"", "{}", "[1]", "{\"op\":\"hello\"}", "nonsense"};
	int fd = dial_control(*state);

	ask(fd, "{\"seq\":1,\"op\":\"dance\"}");
	hear_error(fd, 1, "invalid", "op: unknown: dance");
	ask(fd, "{\"seq\":2,\"op\":\"start\",\"container\":\"../x\"}");
	hear_error(fd, 2, "invalid", "container: ");
	ask(fd, OP(3, "start", "none"));
	hear_error(fd, 3, "not_found", "none");
	ask(fd, OP(4, "kill", "none"));
	hear_error(fd, 4, "invalid", "signal: ");
	close(fd);
	for (size_t i = 0; i < ARRAY_LEN(no_answer); i++) {
		fd = dial_control(*state);
		ask(fd, "%s", no_answer[i]);
		hear_closed(fd);
		close(fd);
	}
	fd = dial_control(*state);
	assert_int_equal(write(fd, "\xff\xff\xff\xff", 4), 4);
	hear_closed(fd);
	close(fd);
	fd = dial_stream(*state, "0123456789abcdef0123456789abcdef");
	hear_closed(fd);
	close(fd);
}

static void test_hundreds_of_connections(void **state)
{
	enum { N = 300 };
	int fds[N];
	struct io io[N];

	fds[0] = dial_control(*state);
	io[0] = run(*state, fds[0], CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c");
	for (int i = 1; i < N; i++) {
		fds[i] = dial_control(*state);
		ask(fds[i], EXEC(1, "c", PROCESS("", "read a; echo $a")));
	}
	for (int i = 1; i < N; i++)
		io[i] = hear_process(*state, fds[i], 1);
	for (int i = 1; i < N; i++) {
		assert_int_equal(write(io[i].in, "z\n", 2), 2);
		expect_output(io[i].out, "z\n");
	}
	for (int i = 0; i < N; i++) {
		io_close(&io[i]);
		close(fds[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hello),
		TEST(test_run_gives_output_and_status),
		TEST(test_nothing_runs_before_start),
		TEST(test_stdin_ends_when_the_host_shuts_it),
		TEST(test_megabytes_pass_unchanged),
		TEST(test_an_unread_stream_stalls_no_other),
		TEST(test_closing_a_connection_kills_its_processes),
		TEST(test_closing_a_connection_kills_what_was_only_created),
		TEST(test_sigterm_ends_what_was_only_created),
		TEST(test_signals_reach_the_process),
		TEST(test_failed_create_and_exec),
		TEST(test_streams_end_with_an_execd_process),
		TEST(test_output_waits_to_be_fetched),
		TEST(test_wait_needs_no_stream_without_output),
		TEST(test_a_closed_stream_is_a_broken_pipe),
		TEST(test_a_half_closed_stream_still_delivers),
		TEST(test_console),
		TEST(test_console_passes_much),
		TEST(test_a_closed_console_hangs_up),
		TEST(test_shutdown_ends_everything),
		TEST(test_delete_kills),
		TEST(test_a_create_that_hangs_delays_nobody),
		TEST(test_a_create_that_hangs_is_deleted),
		TEST(test_a_failed_root_is_the_error_of_create),
		TEST(test_what_cannot_be_unmounted_is_told),
		TEST(test_a_delete_ends_workers_and_waits_for_them),
		TEST(test_many_containers_come_and_go_at_once),
		TEST(test_shutdown_ends_what_is_being_made),
		TEST(test_join_names_a_container_that_runs),
		TEST(test_stats_come_with_the_guests_own_size),
		TEST(test_pause_and_resume),
		TEST(test_sigkill_ends_a_process_whose_output_nobody_reads),
		TEST(test_a_death_in_a_start_hook_is_a_failed_start),
		TEST(test_bad_requests),
		TEST(test_hundreds_of_connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
