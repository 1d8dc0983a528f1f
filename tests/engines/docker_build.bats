#!/usr/bin/env bats
# docker build whose RUN steps are microVMs: the classic builder, with husk as dockerd's default runtime; and BuildKit, whose
# steps dockerd has run by the program `runc` on its PATH, with husk in runc's place.
# shellcheck disable=SC2154

load ../e2e/helpers
load docker

setup_file() {
	make_base
	mkdir -p "$BASE/first"
	ln -s "$HUSK" "$BASE/first/runc"
	PATH=$BASE/first:$PATH make_docker --default-runtime husk
	build_context "$BASE/context"
}

teardown_file() { end_docker; }
setup() { setup_docker; }

teardown() {
	docker images -q --filter dangling=true | xargs -r docker rmi -f >/dev/null
	docker rmi -f built >/dev/null 2>&1
	docker builder prune -af >/dev/null 2>&1
	clean_docker
}

build_context() {
	mkdir -p "$1/sub"
	echo copied >"$1/sub/f"
	cat >"$1/Dockerfile" <<-'F'
		FROM box AS maker
		ARG WHO=nobody
		WORKDIR /w
		COPY sub/f /w/
		RUN echo $WHO >/w/who && uname -r >/w/kernel && ln -s who /w/link && mkfifo /w/pipe && chown -R 1000:1000 /w
		USER user
		RUN id -u >/w/uid; echo two >>/w/f

		FROM box
		ENV SET=here
		COPY --from=maker /w /w
		RUN rm /etc/group && mkdir -m 700 /private && echo "$SET" >/private/env
		CMD ["sh", "-c", "cat /w/link /w/kernel /w/uid /w/f /private/env; ls /etc/group; stat -c '%u %a %n' /w/f /private"]
	F
}

made() {
	local kernel
	kernel=$(drun --rm box uname -r)
	[[ $kernel != "$(uname -r)" ]]
	run --separate-stderr drun --rm built
	is "me
$kernel
1000
copied
two
here
1000 644 /w/f
0 700 /private" "$output"
	has "/etc/group: No such file" "$stderr"
}

@test "docker build: RUN steps are microVMs, what they write is in the image, the cache is used" {
	local DOCKER_BUILDKIT=0
	export DOCKER_BUILDKIT
	docker build --network none --build-arg WHO=me -t built "$BASE/context" >"$T/log" 2>&1 || { cat "$T/log" && return 1; }
	made
	docker build --network none --build-arg WHO=me -t built "$BASE/context" >"$T/log" 2>&1
	! grep 'Running in' "$T/log" || { cat "$T/log" && return 1; }
	printf 'FROM box\nRUN echo said; exit 9\n' >"$D/Dockerfile"
	run docker build --network none "$D"
	[[ $status != 0 ]]
	has "said" "$output"
	has "returned a non-zero code: 9" "$output"
}

# Newer clients need a plugin for it.
buildkit() {
	local client
	for client in docker /usr/bin/docker; do
		if DOCKER_BUILDKIT=1 $client build --help 2>&1 | grep -q -- --progress; then
			DOCKER_BUILDKIT=1 timeout 150 $client build --progress plain --network none "$@"
			return
		fi
	done
	echo "no client with BuildKit"
	return 3
}

@test "docker build with BuildKit, husk in runc's place" {
	run buildkit --build-arg WHO=me -t built "$BASE/context"
	[[ $status != 3 ]] || skip "$output"
	status_is 0
	made
	printf 'FROM box\nRUN echo said; exit 9\n' >"$D/Dockerfile"
	run buildkit "$D"
	[[ $status != 0 ]]
	has "said" "$output"
	has "exit code: 9" "$output"
}
