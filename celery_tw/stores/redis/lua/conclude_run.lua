-- CONCLUDE RUN: store the result of a run that has succeeded, and end the run; both or neither.
-- KEYS  1 run  2 lease  3 running  4 done in this period  5 due  6 news  7 news-seq  8 checkpoint  9 the result; then per guard: its key, who waits, its head
-- ARGV  1 token  2 mid  3 digest  4 task id  5 period  6 done kept ms  7 news kept  8 reservation ms  9 the text of the result  10 result kept s, 0 for ever;
--       then per guard: kind; never idem, whose result would have to be on record
-- reply as of FINISH RUN
-- The result is stored and published as Celery's backend for Redis does; a success that is there stays, as with that.
-- uses now, news, letting_go, remembering
local run, lease, running, done, due, news, news_seq, checkpoint, result = unpack(KEYS, 1, 9)
local token, mid, digest, task_id, period, kept, news_kept, reservation, text, result_kept = unpack(ARGV, 1, 10)
if math.floor(now / tonumber(kept)) ~= tonumber(period) then return {now_text, 'period'} end
if redis.call('HGET', run, 'token') ~= token then return {now_text, 'refused'} end

if not string.find(redis.call('GETRANGE', result, 0, 30), '^{"status": ?"SUCCESS"') then
  if result_kept == '0' then redis.call('SET', result, text) else redis.call('SETEX', result, result_kept, text) end
  redis.call('PUBLISH', result, text)
end
local changed = let_go(11, 10, {mid = mid, task_id = task_id, verb = 'done', final = true, due = due, reservation = reservation})
redis.call('HDEL', running, mid)
remember_end(digest, done, kept)
forget_run(run, lease, checkpoint)
if #changed > 0 then put_in_news(news, news_seq, news_kept, 'entries', table.concat(changed, ',')) end
return {now_text, 'ok', 0}
