#include "server_private.h"

#include <stdio.h>
#include <time.h>

const char *tw_server_date(struct tw_server *s)
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	uint64_t now_s = tw_wall(s->o.clock) / TW_NS_PER_S;
	time_t t = (time_t)now_s;
	struct tm tm;

	if (now_s == s->date_s)
		return s->date;
	gmtime_r(&t, &tm);
	/* Not strftime: its names depend on the locale. */
	snprintf(s->date, sizeof(s->date), "%s, %02u %s %04u %02u:%02u:%02u GMT", days[tm.tm_wday],
	         (unsigned)tm.tm_mday & 31u, months[tm.tm_mon],
	         (unsigned)(tm.tm_year + 1900) % 10000u, (unsigned)tm.tm_hour & 31u,
	         (unsigned)tm.tm_min & 63u, (unsigned)tm.tm_sec & 63u);
	s->date_s = now_s;
	return s->date;
}

const char *tw_http_reason(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {
	    {200, "OK"},
	    {202, "Accepted"},
	    {204, "No Content"},
	    {304, "Not Modified"},
	    {400, "Bad Request"},
	    {401, "Unauthorized"},
	    {403, "Forbidden"},
	    {404, "Not Found"},
	    {405, "Method Not Allowed"},
	    {406, "Not Acceptable"},
	    {408, "Request Timeout"},
	    {413, "Content Too Large"},
	    {414, "URI Too Long"},
	    {415, "Unsupported Media Type"},
	    {417, "Expectation Failed"},
	    {429, "Too Many Requests"},
	    {431, "Request Header Fields Too Large"},
	    {500, "Internal Server Error"},
	    {501, "Not Implemented"},
	    {502, "Bad Gateway"},
	    {503, "Service Unavailable"},
	    {504, "Gateway Timeout"},
	    {505, "HTTP Version Not Supported"},
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Status";
}
