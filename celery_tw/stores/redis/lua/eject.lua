-- EJECT: hand one waiting one-time task to its queue before it is due, and take it off the timetable, in one step.
-- KEYS  1 due, or the lane in which it waits  2 names  3 by-task  4 fired  5 news  6 news-seq  7 entry  8 queue (only with a message)
-- ARGV  1 id  2 due ms  3 mid  4 name ('' = none)  5 task id ('' = none)  6 message ('' = it has been published already)  7 news kept
-- reply 'ejected' | 'gone' (fired, cancelled, or ejected by a first call whose answer was lost) | 'moved' (paused, or due at another time)
-- The caller read the task before: it is taken only as it was read. Its mid counts as fired, so a repeated store does not bring it back.
-- uses now, by_task, news
local due, names, by_task, fired, news, news_seq, entry, queue =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local id, due_ms, mid, name, task, message, news_kept = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if string.match(redis.call('GETRANGE', entry, 0, 300), '^%d+\n([^\n]*)\n') ~= mid then return 'gone' end
if redis.call('ZSCORE', due, id) ~= due_ms then return 'moved' end
if queue then redis.call('LPUSH', queue, message) end
redis.call('ZREM', due, id)
redis.call('DEL', entry)
if name ~= '' then redis.call('HDEL', names, name) end
if task ~= '' then strike_out(by_task, task, id) end
redis.call('ZADD', fired, now_text, mid)
put_in_news(news, news_seq, news_kept, 'entries', id .. ':')
return 'ejected'
