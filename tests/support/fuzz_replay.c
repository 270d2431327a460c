/* Stands in for libFuzzer in an ordinary build: runs every file of the directories named on the
 * command line through LLVMFuzzerTestOneInput, then its prefixes, then what a fixed seed makes of
 * it. The same inputs every time. An empty or missing corpus is a failure. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)
#define PREFIXES       256
#define MUTANTS        512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* In an allocation of its own and of exactly its size, so that the sanitizer sees one byte too far.
 */
static void run_one(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	if (!copy)
		abort();
	memcpy(copy, data, n);
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

static void run_mutant(const uint8_t *data, size_t n, uint8_t *work, uint64_t *x)
{
	static const uint8_t telling[] = {0x00, 0x01, 0x7F, 0x80, 0xFF, '"', '{', '\n'};
	unsigned changes = 1 + next_random(x) % 4;

	memcpy(work, data, n);
	while (changes--) {
		size_t at = next_random(x) % n;

		if (next_random(x) & 1)
			work[at] ^= (uint8_t)(1 << next_random(x) % 8);
		else
			work[at] = telling[next_random(x) % sizeof(telling)];
	}
	run_one(work, n);
}

static void run_input(const uint8_t *data, size_t n)
{
	size_t step = n > PREFIXES ? n / PREFIXES : 1;
	uint64_t x = UINT64_C(0x9E3779B97F4A7C15) ^ n;
	uint8_t *work;

	run_one(data, n);
	for (size_t len = 0; len < n; len += step)
		run_one(data, len);
	if (!n)
		return;
	work = malloc(n);
	if (!work)
		abort();
	for (unsigned i = 0; i < MUTANTS; i++)
		run_mutant(data, n, work, &x);
	free(work);
}

static int run_file(const char *dir, const char *name)
{
	uint8_t *data = malloc(FILE_BYTES_MAX);
	char path[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = data ? fopen(path, "rb") : NULL;
	if (!f) {
		fprintf(stderr, "cannot read %s\n", path);
		free(data);
		return -1;
	}
	n = fread(data, 1, FILE_BYTES_MAX, f);
	fclose(f);
	printf("%s: %zu bytes\n", path, n);
	fflush(stdout); /* the last line names the input that crashed */
	run_input(data, n);
	free(data);
	return 0;
}

static int run_directory(const char *dir)
{
	struct dirent **entries;
	int n = scandir(dir, &entries, NULL, alphasort);
	int files = 0, rc = 0;

	for (int i = 0; i < n; i++) {
		if (entries[i]->d_name[0] != '.') {
			rc |= run_file(dir, entries[i]->d_name);
			files++;
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	if (!files)
		fprintf(stderr, "%s: no corpus\n", dir);
	return files ? rc : -1;
}

int main(int argc, char **argv)
{
	int rc = argc > 1 ? 0 : -1;

	for (int i = 1; i < argc; i++)
		rc |= run_directory(argv[i]);
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
