-- TEMPLATES: read_template reads a template, and join makes the message of a record of its kind.
-- A record is seven lines of text and then values, one a line, but for the last, which is what is left: version, mid, stored ms, last moment ms
-- or '', name, task id or '', id of the template. A template is three lines and the message, with marks for what stands in lines of the record
-- (templates.py): fingerprint, queue key, extra JSON.

-- The captures are mid, stored ms, last moment, name, task id, id of the template, and where the values begin.
local HEAD = '^1\n([^\n]*)\n(%d+)\n(%d*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n()'
local MID, NAME, TASK_ID, VALUES, NUMBER = 2, 5, 6, 8, string.byte('#') - 64
local find, sub, concat = string.find, string.sub, table.concat

-- The pieces of the message, with a gap for each mark. gaps[line] is where a line of the record belongs, 0 if nowhere, and what stands in
-- several places is copied there: again holds pairs of places, to and from. Nil for a text that is no template.
local function read_template(text)
  local made_for, queue, extra, at = string.match(text or '', '^([^\n]*)\n([^\n]*)\n([^\n]*)\n()')
  if not made_for then return nil end
  local t = {made_for = made_for, queue = queue, extra = extra, pieces = {}, gaps = {}, again = {}, last_line = VALUES - 1}
  t.numbered = find(text, '"tw_seq": \0#', 1, true)
  for letter in string.gmatch(text, '%z(.)') do t.last_line = math.max(t.last_line, string.byte(letter) - 64) end
  local known = {[MID] = true, [NAME] = true, [TASK_ID] = true, [NUMBER] = t.numbered}
  for line in pairs(known) do t.gaps[line] = 0 end
  for line = VALUES, t.last_line do t.gaps[line], known[line] = 0, true end
  while true do
    local mark = find(text, '\0', at, true)
    t.pieces[#t.pieces + 1] = sub(text, at, mark and mark - 1)
    if not mark then return t end
    local line, gap = (string.byte(text, mark + 1) or 0) - 64, #t.pieces + 1
    if not known[line] then t.unfit = true end
    t.pieces[gap] = ''
    if t.gaps[line] == 0 then
      t.gaps[line] = gap
    else
      t.again[#t.again + 1] = gap
      t.again[#t.again + 1] = t.gaps[line]
    end
    at = mark + 2
  end
end

-- The message of a record whose values begin *at*, nil if it does not fit.
local function join(t, record, at, mid, name, task, number)
  if t.unfit then return nil end
  local pieces, gaps, again, last_line = t.pieces, t.gaps, t.again, t.last_line
  for line = VALUES, last_line - 1 do
    local stop = find(record, '\n', at, true)
    if not stop then return nil end
    local gap = gaps[line]
    if gap > 0 then pieces[gap] = sub(record, at, stop - 1) end
    at = stop + 1
  end
  if last_line >= VALUES then pieces[gaps[last_line]] = sub(record, at) end
  pieces[gaps[MID]], pieces[gaps[NAME]], pieces[gaps[TASK_ID]] = mid, name, task
  if number then pieces[gaps[NUMBER]] = number end
  for i = 1, #again, 2 do pieces[again[i]] = pieces[again[i + 1]] end
  return concat(pieces)
end
