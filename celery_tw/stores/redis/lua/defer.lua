-- DEFER: store one task until it is due, if there is a leader to fire it.
-- KEYS  1 due  2 by-task  3 fired  4 news  5 news-seq  6 schema  7 cancelled  8 seen  9 leader  10 entry  11 templates
--       12 template-dues
-- ARGV  1 '' or, for a repeated call, how many ms ago the first was begun  2 id  3 mid  4 due ms  5 task id  6 the record to store, after its third line  7 grace ms ('' = ask for no leader)
--       8 schema version  9 news kept  10 id of the template  11 the template
-- reply {now ms, status}: 'put' | 'leaderless' (nobody leads, and nobody was seen within the grace) | 'taken' (the id is another task's)
--       | 'fired', 'cancelled' (what the other call became, whose answer was lost)
-- A repeated call brings the same id and mid and says so; whatever the first one did is done once. The first may also come after it,
-- late; so what the repeated call finds leaderless, and lets Celery publish, counts as fired.
-- SET comes first: a full memory refuses it, and then nothing has been written.
-- uses now, by_task, news, leaderless, arrival
local due, by_task, fired, news, news_seq, schema_key, cancelled, seen, leader, entry, templates, template_dues = unpack(KEYS)
local begun_ago, id, mid, due_ms, task, rest, grace, schema, news_kept, template_id, template = unpack(ARGV)

local found = found_before(entry, fired, mid)
if found then return {now_text, found == 'own' and 'put' or found} end
if cancelled_since(cancelled, task, tonumber(begun_ago)) then return {now_text, 'cancelled'} end
if grace ~= '' and leaderless(leader, seen, grace) then return let_past(fired, mid, entry, begun_ago, 'leaderless') end

store_record(entry, mid, rest)
share_template(templates, template_dues, template_id, template, due_ms)
redis.call('ZADD', due, due_ms, id)
list_under(by_task, task, id)
redis.call('ZREM', cancelled, task)
raise_schema(schema_key, schema)
put_in_news(news, news_seq, news_kept, 'entries', id .. ':' .. due_ms)
return {now_text, 'put'}
