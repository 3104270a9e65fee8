/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_runtime.c - config.json from image configs; users, signals, volumes; superblocks */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

/* the commands are no library; what they share is tested as it is */
#include "../../tools/oci_runtime.c"
#include "../../tools/rootfs.c"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "broken\n"
			     "web:x:1000:1001:w:/home/web:/bin/sh\n"
			     "1234:x:77:78::/n:/bin/sh\n"
			     "bad:x:one:two::/:/bin/sh\n"
			     "last:x:5:6::/last";
static const char group[] = "root:x:0:\n"
			    "web:x:1001:\n"
			    "extra:x:2000:root,web\n"
			    "::\n"
			    "also:x:2001:web,other\n"
			    "not:x:2002:webmaster\n"
			    "staff:x:50:";

static void users(void **state)
{
	struct run_user u;
	struct err e = {0};

	(void)state;
	assert_int_equal(run_user_resolve(NULL, passwd, group, &u, &e), 0);
	assert_int_equal(u.uid, 0);
	assert_string_equal(u.home, "/root");
	assert_int_equal(u.group_count, 1);
	run_user_done(&u);
	assert_int_equal(run_user_resolve("web", passwd, group, &u, &e), 0);
	assert_int_equal(u.uid, 1000);
	assert_int_equal(u.gid, 1001);
	assert_int_equal(u.group_count, 2);
	assert_int_equal(u.groups[0], 2000);
	assert_int_equal(u.groups[1], 2001);
	run_user_done(&u);
	/* a group that is named replaces them all */
	assert_int_equal(run_user_resolve("web:staff", passwd, group, &u, &e), 0);
	assert_int_equal(u.gid, 50);
	assert_int_equal(u.group_count, 0);
	run_user_done(&u);
	assert_int_equal(run_user_resolve("1000", passwd, group, &u, &e), 0);
	assert_int_equal(u.gid, 1001);
	assert_string_equal(u.home, "/home/web");
	run_user_done(&u);
	assert_int_equal(run_user_resolve("4242:4243", passwd, group, &u, &e), 0);
	assert_int_equal(u.uid, 4242);
	assert_int_equal(u.gid, 4243);
	assert_null(u.home);
	run_user_done(&u);
	assert_int_equal(run_user_resolve("1234", passwd, group, &u, &e), 0);
	assert_int_equal(u.uid, 77); /* a name, though it looks like a number */
	run_user_done(&u);
	assert_int_equal(run_user_resolve("last", passwd, group, &u, &e), 0);
	assert_string_equal(u.home, "/last");
	run_user_done(&u);
	assert_int_equal(run_user_resolve("7", NULL, NULL, &u, &e), 0);
	run_user_done(&u);
}

static void users_that_are_not_there(void **state)
{
	static const char *const bad[] = {"nobody",	"web:nobody", "bad",	     "-1",
					  "4294967295", "1x",	      "99999999999", "broken"};
	struct run_user u;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct err e = {0};

		assert_int_equal(run_user_resolve(bad[i], passwd, group, &u, &e), -EINVAL);
		assert_true(*e.msg);
	}
	assert_int_equal(run_user_resolve("root", NULL, NULL, &u, NULL), -EINVAL);
}

static void signals(void **state)
{
	(void)state;
	assert_int_equal(run_signal_parse("SIGTERM"), SIGTERM);
	assert_int_equal(run_signal_parse("QUIT"), SIGQUIT);
	assert_int_equal(run_signal_parse("15"), 15);
	assert_int_equal(run_signal_parse("SIGRTMIN+3"), SIGRTMIN + 3);
	assert_int_equal(run_signal_parse("RTMAX"), SIGRTMAX);
	assert_int_equal(run_signal_parse("SIGRTMAX-1"), SIGRTMAX - 1);
	assert_int_equal(run_signal_parse("SIGNOTHING"), -EINVAL);
	assert_int_equal(run_signal_parse("0"), -EINVAL);
	assert_int_equal(run_signal_parse("65"), -EINVAL);
	assert_int_equal(run_signal_parse(""), -EINVAL);
	assert_int_equal(run_signal_parse("SIGRTMIN+99"), -EINVAL);
	assert_int_equal(run_signal_parse("SIGRTMIN3"), -EINVAL);
}

static int bind_of(const char *s, struct run_bind *b)
{
	static char text[64];

	snprintf(text, sizeof(text), "%s", s);
	return run_bind_parse(text, b, NULL);
}

static void binds(void **state)
{
	struct run_bind b;

	(void)state;
	assert_int_equal(bind_of("/a:/b", &b), 0);
	assert_string_equal(b.source, "/a");
	assert_string_equal(b.target, "/b");
	assert_false(b.read_only);
	assert_int_equal(bind_of("/a:/b:ro", &b), 0);
	assert_true(b.read_only);
	assert_int_equal(bind_of("/a:/b:rw", &b), 0);
	assert_int_equal(bind_of("/a", &b), -EINVAL);
	assert_int_equal(bind_of("a:/b", &b), -EINVAL);
	assert_int_equal(bind_of("/a:b", &b), -EINVAL);
	assert_int_equal(bind_of("/a:/b:z", &b), -EINVAL);
	assert_int_equal(bind_of("", &b), -EINVAL);
}

static void image_configs_that_lie(void **state)
{
	static const char *const bad[] = {
	    "",
	    "[]",
	    "nonsense",
	    "{\"config\":[]}",
	    "{\"config\":{\"Env\":{}}}",
	    "{\"config\":{\"Env\":[1]}}",
	    "{\"config\":{\"Cmd\":\"sh\"}}",
	    "{\"config\":{\"User\":0}}",
	    "{\"config\":{\"Volumes\":[\"/x\"]}}",
	    "{\"config\":{\"Entrypoint\":[null]}}",
	};
	struct run_image i;

	(void)state;
	for (size_t n = 0; n < COUNT(bad); n++)
		assert_int_equal(run_image_parse(bad[n], &i, NULL), -EBADMSG);
	assert_int_equal(run_image_parse("{}", &i, NULL), 0);
	assert_null(i.cmd[0]);
	run_image_done(&i);
	assert_int_equal(run_image_parse("{\"config\":null}", &i, NULL), 0);
	run_image_done(&i);
	assert_int_equal(run_image_parse("{\"config\":{\"Cmd\":null,\"User\":\"\"}}", &i, NULL), 0);
	assert_null(i.user);
	run_image_done(&i);
	assert_int_equal(run_image_parse(NULL, &i, NULL), 0);
	run_image_done(&i);
}

static const char sample[] =
    "{\"config\":{\"Env\":[\"PATH=/opt/bin\",\"FOO=bar\",\"bogus\"],"
    "\"Entrypoint\":[\"/entry\",\"-x\"],\"Cmd\":[\"serve\"],\"User\":\"web\","
    "\"WorkingDir\":\"/srv\",\"Volumes\":{\"/data\":{}},\"StopSignal\":\"SIGQUIT\"}}";

static const char *fake_env(const char *key)
{
	return !strcmp(key, "OUTER") ? "outside" : NULL;
}

/* config.json of @s over the sample image, parsed again */
static cJSON *spec_of(struct run_spec s, int *ret_error)
{
	struct run_image image;
	struct run_user u = {.uid = 1000, .gid = 1001, .home = (char *)"/home/web"};
	char *text = NULL;
	cJSON *j = NULL;

	assert_int_equal(run_image_parse(sample, &image, NULL), 0);
	s.image = &image;
	if (!s.user)
		s.user = &u;
	s.rootfs = "/run/x/rootfs";
	s.hostname = "moon";
	s.cgroup_path = "/headstart-x";
	s.getenv = fake_env;
	*ret_error = run_spec_json(&s, &text, NULL);
	if (!*ret_error) {
		j = cJSON_Parse(text);
		assert_non_null(j);
	}
	free(text);
	run_image_done(&image);
	return j;
}

/* A list of strings as "a b c "; static */
static const char *joined(const cJSON *array)
{
	static char out[1024];
	const cJSON *v;

	out[0] = '\0';
	cJSON_ArrayForEach(v, array)
	{
		strcat(out, v->valuestring);
		strcat(out, " ");
	}
	return out;
}

static const cJSON *process_of(const cJSON *j)
{
	return member(j, "process");
}

static void defaults_of_the_image(void **state)
{
	int err;
	cJSON *j = spec_of((struct run_spec){0}, &err);
	const cJSON *p = process_of(j), *user = member(p, "user");

	(void)state;
	assert_int_equal(err, 0);
	assert_string_equal(joined(member(p, "args")), "/entry -x serve ");
	assert_string_equal(joined(member(p, "env")),
			    "PATH=/opt/bin HOSTNAME=moon HOME=/home/web FOO=bar ");
	assert_string_equal(member(p, "cwd")->valuestring, "/srv");
	assert_int_equal(member(user, "uid")->valueint, 1000);
	assert_true(cJSON_IsFalse(member(p, "terminal")));
	assert_string_equal(joined(member(member(p, "capabilities"), "effective")), "");
	assert_int_equal(cJSON_GetArraySize(member(member(p, "capabilities"), "bounding")), 14);
	assert_string_equal(member(member(j, "root"), "path")->valuestring, "/run/x/rootfs");
	assert_string_equal(member(member(j, "linux"), "cgroupsPath")->valuestring, "/headstart-x");
	cJSON_Delete(j);
}

static void the_command_line_wins(void **state)
{
	static const char *const args[] = {"-c", "true", NULL};
	static const char *const env[] = {"FOO=", "OUTER", "ABSENT", "NEW=1=2", NULL};
	static const struct run_bind bind = {"/a", "/b", true};
	struct run_user root = {0};
	int err;
	cJSON *j = spec_of((struct run_spec){.args = args,
					     .entrypoint = "/bin/sh",
					     .env = env,
					     .working_dir = "/tmp",
					     .binds = &bind,
					     .bind_count = 1,
					     .tty = true,
					     .read_only = true,
					     .user = &root},
			   &err);
	const cJSON *p = process_of(j), *mounts = member(j, "mounts"), *last;

	(void)state;
	assert_string_equal(joined(member(p, "args")), "/bin/sh -c true ");
	assert_string_equal(
	    joined(member(p, "env")),
	    "PATH=/opt/bin HOSTNAME=moon HOME=/ TERM=xterm FOO= OUTER=outside NEW=1=2 ");
	assert_string_equal(member(p, "cwd")->valuestring, "/tmp");
	assert_true(cJSON_IsTrue(member(member(j, "root"), "readonly")));
	assert_int_equal(cJSON_GetArraySize(member(member(p, "capabilities"), "effective")), 14);
	last = cJSON_GetArrayItem(mounts, cJSON_GetArraySize(mounts) - 1);
	assert_string_equal(member(last, "destination")->valuestring, "/b");
	assert_string_equal(joined(member(last, "options")), "rbind rprivate ro ");
	cJSON_Delete(j);
}

static void commands_and_entrypoints(void **state)
{
	static const char *const args[] = {"other", NULL};
	static const char *const bad_env[] = {"=x", NULL};
	int err;
	cJSON *j = spec_of((struct run_spec){.args = args}, &err);

	(void)state;
	assert_string_equal(joined(member(process_of(j), "args")), "/entry -x other ");
	cJSON_Delete(j);
	/* an entrypoint of one's own drops the image's command; an empty one leaves nothing */
	j = spec_of((struct run_spec){.entrypoint = "/mine"}, &err);
	assert_string_equal(joined(member(process_of(j), "args")), "/mine ");
	cJSON_Delete(j);
	j = spec_of((struct run_spec){.entrypoint = "", .args = args}, &err);
	assert_string_equal(joined(member(process_of(j), "args")), "other ");
	cJSON_Delete(j);
	assert_null(spec_of((struct run_spec){.entrypoint = ""}, &err));
	assert_int_equal(err, -EINVAL);
	assert_null(spec_of((struct run_spec){.working_dir = "here"}, &err));
	assert_int_equal(err, -EINVAL);
	assert_null(spec_of((struct run_spec){.env = bad_env}, &err));
	assert_int_equal(err, -EINVAL);
}

/* "new", "none", or the path of the network namespace; static storage of @j */
static const char *network_of(const cJSON *j)
{
	const cJSON *n;

	cJSON_ArrayForEach(n, member(member(j, "linux"), "namespaces"))
	{
		if (!strcmp(member(n, "type")->valuestring, "network"))
			return member(n, "path") ? member(n, "path")->valuestring : "new";
	}
	return "none";
}

static void networks(void **state)
{
	int err;
	cJSON *j = spec_of((struct run_spec){0}, &err);

	(void)state;
	assert_string_equal(network_of(j), "new");
	cJSON_Delete(j);
	j = spec_of((struct run_spec){.netns = ""}, &err);
	assert_string_equal(network_of(j), "none");
	cJSON_Delete(j);
	j = spec_of((struct run_spec){.netns = "/run/netns/x"}, &err);
	assert_string_equal(network_of(j), "/run/netns/x");
	cJSON_Delete(j);
}

static void superblocks(void **state)
{
	uint8_t head[FS_PROBE_BYTES] = {0};
	struct fs_probe fs;
	struct err e = {0};

	(void)state;
	assert_int_equal(fs_probe(head, &fs, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "nothing at its start"));
	put_le16(head + 1024 + 0x38, EXT_MAGIC);
	put_le32(head + 1024 + 0x18, 2);
	assert_int_equal(fs_probe(head, &fs, &e), 0);
	assert_string_equal(fs.type, "ext4");
	assert_int_equal(fs.block_bytes, 4096);
	put_le32(head + 1024 + 0x18, 0xffffffff);
	assert_int_equal(fs_probe(head, &fs, &e), -EOPNOTSUPP);
	memset(head, 0, sizeof(head));
	put_le32(head + 1024, EROFS_MAGIC);
	head[1024 + 12] = 12;
	assert_int_equal(fs_probe(head, &fs, &e), 0);
	assert_string_equal(fs.type, "erofs");
	head[1024 + 12] = 200;
	assert_int_equal(fs_probe(head, &fs, &e), -EOPNOTSUPP);
	memcpy(head, XFS_MAGIC, 4);
	head[1024] = 0;
	assert_int_equal(fs_probe(head, &fs, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "xfs"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(users),
	    cmocka_unit_test(users_that_are_not_there),
	    cmocka_unit_test(signals),
	    cmocka_unit_test(binds),
	    cmocka_unit_test(image_configs_that_lie),
	    cmocka_unit_test(defaults_of_the_image),
	    cmocka_unit_test(the_command_line_wins),
	    cmocka_unit_test(commands_and_entrypoints),
	    cmocka_unit_test(networks),
	    cmocka_unit_test(superblocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
