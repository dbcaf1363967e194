/* Asks the C library for what it reads at run time, one question a run, and prints the answers. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <execinfo.h>
#include <iconv.h>
#include <locale.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

static int no(const char *what)
{
	printf("no %s: %s\n", what, strerror(errno));
	return 1;
}

static int locale(const char *name)
{
	struct tm day = { .tm_year = 100, .tm_mon = 2, .tm_mday = 1, .tm_wday = 3 };
	char text[100];

	if (!setlocale(LC_ALL, name))
		return no(name);
	strftime(text, sizeof text, "%A, %d. %B", &day);
	printf("%s %'.2f %d\n", text, 1234567.5, wcwidth(0x65e5));
	return 0;
}

/* From a character set to UTF-8. */
static int convert(const char *from, char *text)
{
	char result[100], *to = result;
	size_t left = strlen(text), room = sizeof result;
	iconv_t how = iconv_open("UTF-8", from);

	if (how == (iconv_t)-1 || iconv(how, &text, &left, &to, &room) == (size_t)-1)
		return no(from);
	printf("%.*s\n", (int)(to - result), result);
	return 0;
}

static int user(const char *name)
{
	struct passwd *found = getpwnam(name);

	if (!found)
		return no(name);
	printf("%d %s\n", (int)found->pw_uid, found->pw_dir);
	return 0;
}

static int host(const char *name)
{
	struct addrinfo asked = { .ai_flags = AI_IDN, .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;
	char text[100];
	int wrong;

	setlocale(LC_ALL, "");
	wrong = getaddrinfo(name, NULL, &asked, &found);
	if (wrong) {
		printf("no %s: %s\n", name, gai_strerror(wrong));
		return 1;
	}
	puts(inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text));
	return 0;
}

/* Noon of a summer's day, UTC, as the variable TZ has it. */
static int when(void)
{
	time_t noon = 962452800;
	struct tm *here = localtime(&noon);

	printf("%d %s\n", here->tm_hour, here->tm_zone);
	return 0;
}

static void clean(void *what)
{
	puts(what);
}

static void *leave(void *what)
{
	pthread_cleanup_push(clean, "left");
	pthread_exit(what);
	pthread_cleanup_pop(0);
}

static void *wait(void *what)
{
	pthread_cleanup_push(clean, "cancelled");
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return what;
}

static int unwind(void)
{
	pthread_t thread;
	void *frames[10];

	pthread_create(&thread, NULL, leave, NULL);
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, wait, NULL);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	puts(backtrace(frames, 10) > 1 ? "frames" : "no frames");
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IONBF, 0);
	if (!strcmp(what, "locale"))
		return locale(argv[2]);
	if (!strcmp(what, "convert"))
		return convert(argv[2], argv[3]);
	if (!strcmp(what, "user"))
		return user(argv[2]);
	if (!strcmp(what, "host"))
		return host(argv[2]);
	if (!strcmp(what, "when"))
		return when();
	if (!strcmp(what, "unwind"))
		return unwind();
	return 2;
}
