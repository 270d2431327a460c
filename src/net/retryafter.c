#include "client.h"

#include <stdio.h>

static const char *const months[12] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct date {
	int year, month, day, hour, minute, second;
};

static bool month_of(const char *name, int *month)
{
	for (int i = 0; i < 12; i++) {
		if (strcmp(name, months[i]) == 0) {
			*month = i + 1;
			return true;
		}
	}
	return false;
}

static bool at_end(const char *s, int at)
{
	return at > 0 && s[at] == '\0';
}

/* RFC 9110 section 5.6.7: IMF-fixdate, and the two old forms that a recipient must accept. */
static bool date_read(const char *s, struct date *d)
{
	char month[4];
	int end = 0;

	if (sscanf(s, "%*3[A-Za-z], %2d %3s %4d %2d:%2d:%2d GMT%n", &d->day, month, &d->year,
	           &d->hour, &d->minute, &d->second, &end) == 6 &&
	    at_end(s, end))
		return month_of(month, &d->month);
	end = 0;
	if (sscanf(s, "%*9[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n", &d->day, month, &d->year,
	           &d->hour, &d->minute, &d->second, &end) == 6 &&
	    at_end(s, end)) {
		d->year += d->year < 70 ? 2000 : 1900;
		return month_of(month, &d->month);
	}
	end = 0;
	if (sscanf(s, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &d->day, &d->hour,
	           &d->minute, &d->second, &d->year, &end) == 6 &&
	    at_end(s, end))
		return month_of(month, &d->month);
	return false;
}

static bool date_ok(const struct date *d)
{
	return d->year >= 1970 && d->day >= 1 && d->day <= 31 && d->hour >= 0 && d->hour <= 23 &&
	       d->minute >= 0 && d->minute <= 59 && d->second >= 0 && d->second <= 60;
}

/* Days since 1970-01-01 of the Gregorian calendar, counted in years that begin in March. */
static int64_t date_days(const struct date *d)
{
	int64_t y = d->month <= 2 ? d->year - 1 : d->year;
	int64_t m = d->month <= 2 ? d->month + 9 : d->month - 3;
	int64_t century_days = y / 4 - y / 100 + y / 400;

	return y * 365 + century_days + (m * 153 + 2) / 5 + d->day - 1 - 719468;
}

static uint64_t seconds_read(const char *s)
{
	uint64_t seconds = 0;

	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return UINT64_MAX;
		seconds = seconds * 10 + (uint64_t)(*s - '0');
		if (seconds > INT64_MAX / 1000)
			seconds = INT64_MAX / 1000 + 1; /* stays there, whatever follows */
	}
	return seconds > INT64_MAX / 1000 ? INT64_MAX : seconds * 1000;
}

uint64_t tw_retry_after_ms(struct tw_slice value, uint64_t wall_ns)
{
	char text[64];
	struct date d = {0};
	int64_t now_ms = (int64_t)(wall_ns / TW_NS_PER_MS), then_ms;

	while (value.n && (value.p[0] == ' ' || value.p[0] == '\t'))
		value = tw_slice(value.p + 1, value.n - 1);
	while (value.n && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
		value.n--;
	if (value.n == 0 || value.n >= sizeof text || memchr(value.p, 0, value.n))
		return UINT64_MAX;
	memcpy(text, value.p, value.n);
	text[value.n] = '\0';
	if (text[0] >= '0' && text[0] <= '9')
		return seconds_read(text);
	if (!date_read(text, &d) || !date_ok(&d))
		return UINT64_MAX;
	then_ms = (date_days(&d) * 86400 + d.hour * 3600 + d.minute * 60 + d.second) * 1000;
	return then_ms <= now_ms ? 0 : (uint64_t)(then_ms - now_ms);
}
