-- HURRY: let a waiting one-time task be due now.
-- KEYS  1 due  2 entry  3 held  4 news  5 news-seq  6 template-dues
-- ARGV  1 id  2 news kept
-- reply 1 done, 0 the task has gone. Only a task that still waits is moved, so that a fired one cannot come back.
-- uses now, news
local due, entry, held, news, news_seq, template_dues, id = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], ARGV[1]
local record = redis.call('GET', entry)
if not record then return 0 end
local template_id = string.match(record, '^[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n')
if template_id then redis.call('ZADD', template_dues, 'XX', 'GT', now_text, template_id) end
redis.call('ZADD', due, now_text, id)
redis.call('HDEL', held, id)
put_in_news(news, news_seq, ARGV[2], 'entries', id .. ':' .. now_text)
return 1
