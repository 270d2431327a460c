/* UTF-8 (RFC 3629): sixteen ASCII bytes at a time, everything else by the table of its section 4.
 */
#include "tw/wire.h"
#include "ascii.h"

static bool is_tail(uint8_t c)
{
	return (c & 0xc0) == 0x80;
}

size_t utf8_sequence(const uint8_t *p, size_t n)
{
	uint8_t c = p[0];

	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		return n >= 2 && is_tail(p[1]) ? 2 : 0;
	if (c >= 0xe0 && c <= 0xef) {
		uint8_t low = c == 0xe0 ? 0xa0 : 0x80, high = c == 0xed ? 0x9f : 0xbf;

		return n >= 3 && p[1] >= low && p[1] <= high && is_tail(p[2]) ? 3 : 0;
	}
	if (c >= 0xf0 && c <= 0xf4) {
		uint8_t low = c == 0xf0 ? 0x90 : 0x80, high = c == 0xf4 ? 0x8f : 0xbf;

		return n >= 4 && p[1] >= low && p[1] <= high && is_tail(p[2]) && is_tail(p[3]) ? 4
		                                                                               : 0;
	}
	return 0;
}

bool tw_utf8_valid(const uint8_t *p, size_t n)
{
	while (n) {
		size_t k;

		if (n >= 16 && !ascii_high16(p)) {
			p += 16;
			n -= 16;
			continue;
		}
		/* The rest of this block one by one, then try blocks again. */
		for (size_t stop = n > 16 ? n - 16 : 0; n > stop; n -= k, p += k) {
			k = utf8_sequence(p, n);
			if (!k)
				return false;
			if (k > n - stop) {
				n -= k;
				p += k;
				break;
			}
		}
	}
	return true;
}
