"""Rows of prompts and conversations as people have them, each recognized by its fields."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from pydantic import ValidationError

from limbeck.data.prompt_sources import PromptSource, parse_prompts
from limbeck.data.prompts import (
    are_conversations,
    content_of_prompts,
    files_of_prompts,
    name_of_prompts,
    read_prompts,
    unread_columns,
)
from limbeck.errors import DataError
from limbeck.recipe.schema import DataPart

ASKED = {"role": "user", "content": "Who?"}
SAID = {"role": "assistant", "content": "Nobody."}
MORE = {"role": "user", "content": "Why?"}
LAST = {"role": "assistant", "content": "It rained."}
TURNS = [ASKED, SAID, MORE, LAST]
SHARED = [
    {"from": "human" if turn["role"] == "user" else "gpt", "value": turn["content"]}
    for turn in TURNS
]


@pytest.fixture
def written(tmp_path):
    """A file of JSON lines with these rows."""

    def write(*rows, name="rows.jsonl"):
        text = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def said(messages):
    return [(message["role"], message["content"]) for message in messages]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS, "prompt": "Who?", "id": 3},
        {"conversations": SHARED},
        {"messages": SHARED},
        {"conversations": [{"role": t["role"], "content": t["content"]} for t in TURNS]},
        {"messages": json.dumps(TURNS)},
        {"messages": [{**t, "content": [{"type": "text", "text": t["content"]}]} for t in TURNS]},
    ],
    ids=["messages", "ShareGPT", "from and value", "roles", "JSON text", "parts"],
)
def test_conversations_are_read_in_every_form(written, row):
    [found] = read_prompts(written(row))
    assert said(found.conversation.messages) == said(TURNS)
    assert (found.text, found.references) == ("Who?\nNobody.\nWhy?", ("It rained.",))
    assert found.conversation.answers == (1, 3) and found.conversation.left_out == 0


@pytest.mark.parametrize("not_learned", [{"weight": 0}, {"train": False}, {"loss": 0}])
def test_answers_that_are_not_to_be_learned_are_given(written, not_learned):
    """As OpenAI's rows say it, and those of other trainers."""
    empty = {**SAID, "content": "", **not_learned}
    rows = [
        {"messages": [ASKED, {**SAID, **not_learned}, MORE, {**LAST, "weight": 1}]},
        {"system": "Rain.", "messages": [ASKED, empty, MORE, LAST, MORE, {**SAID, **not_learned}]},
        {"messages": [SAID, {**ASKED, **not_learned}, SAID, MORE, {**LAST, **not_learned}]},
    ]
    first, second, third = (one.conversation for one in read_prompts(written(*rows)))
    assert said(first.messages) == said(TURNS)
    assert (first.answers, second.answers, third.answers) == ((3,), (4,), (1,))
    assert second.messages[-1]["content"] == "It rained." and second.left_out == 2
    assert said(third.messages) == said([ASKED, SAID]) and third.left_out == 3


def test_prompts_and_completions_of_messages_learn_the_completion(written):
    row = {"prompt": TURNS[:3], "completion": TURNS[3:]}
    mixed = {"prompt": TURNS[:3], "response": "It rained."}
    several = {"prompt": TURNS[:3], "references": ["It rained.", "It snowed."]}
    first, second, third = read_prompts(written(row, mixed, several))
    assert first.conversation.answers == second.conversation.answers == (3,)
    assert said(first.conversation.messages) == said(second.conversation.messages) == said(TURNS)
    assert third.references == ("It rained.", "It snowed.")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Who?", "completion": "Nobody."},
        {"prompt": "Who?", "response": "Nobody."},
        {"prompt": "Who?", "references": ["Nobody."]},
        {"instruction": "Who?", "input": "", "output": "Nobody.", "text": "### ..."},
    ],
)
def test_texts_stay_texts(written, row):
    [found] = read_prompts(written(row))
    assert (found.text, found.references, found.conversation) == ("Who?", ("Nobody.",), None)


def test_an_instruction_has_what_it_is_about_on_the_next_line(written):
    [found] = read_prompts(written({"instruction": "Shorten.", "input": "A b c.", "output": "A."}))
    assert found.text == "Shorten.\nA b c." and found.conversation is None


def test_what_the_system_says_and_tools_belong_to_the_conversation(written):
    rows = [
        {"system": "Be brief.", "conversations": SHARED},
        {"system": "Be brief.", "prompt": "Who?", "response": "Nobody."},
        {"system": "Be brief.", "instruction": "Who?", "output": "Nobody."},
        {"tools": json.dumps([{"name": "add"}]), "messages": TURNS},
    ]
    *with_system, tools = read_prompts(written(*rows))
    for found in with_system:
        assert found.conversation.messages[0] == {"role": "system", "content": "Be brief."}
    assert with_system[0].conversation.answers == (2, 4)
    assert with_system[1].conversation.answers == with_system[2].conversation.answers == (2,)
    assert tools.conversation.tools == ({"name": "add"},)


def test_calls_and_results_of_tools_are_kept(written):
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": {"sum": 2}, "name": "add"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    [found] = read_prompts(written({"messages": messages}))
    _, first, result, _ = found.conversation.messages
    assert first == {"role": "assistant", "content": "", "tool_calls": [call]}
    # OpenAI has arguments as JSON text, and had one call in a key of its own; csv has all as text.
    text = {"function": {"name": "add", "arguments": '{"a": 1}'}}
    for calls in (
        {"tool_calls": [text]},
        {"tool_calls": json.dumps([text])},
        {"tool_calls": [text], "content": []},
        {"function_call": text["function"]},
        {"tool_calls": [text["function"]]},
    ):
        changed = [ASKED, {"role": "assistant", "content": None, **calls}]
        [found] = read_prompts(written({"messages": changed}))
        [called] = found.conversation.messages[1]["tool_calls"]
        assert called.get("function", called) == call["function"]
        assert found.conversation.messages[1]["content"] == ""
    [found] = read_prompts(written({"messages": messages}))
    assert result == {"role": "tool", "content": '{"sum": 2}', "name": "add"}
    assert json.loads(found.references[0]) == [call]


def test_messages_after_the_last_answer_are_counted(written):
    [found] = read_prompts(written({"messages": [*TURNS, ASKED]}))
    assert said(found.conversation.messages) == said(TURNS) and found.conversation.left_out == 1


def test_answers_before_the_first_question_are_counted(written):
    system = {"role": "system", "content": "Be brief."}
    rows = [
        {"messages": [LAST, *TURNS, ASKED]},
        {"messages": [system, LAST, *TURNS]},
        {"prompt": [LAST, *TURNS[:3]], "completion": TURNS[3:]},
        {"system": "Be brief.", "prompt": [LAST, *TURNS[:3]], "completion": TURNS[3:]},
    ]
    found = [row.conversation for row in read_prompts(written(*rows))]
    assert [one.left_out for one in found] == [2, 1, 1, 1]
    assert said(found[0].messages) == said(found[2].messages) == said(TURNS)
    assert said(found[1].messages) == said(found[3].messages) == said([system, *TURNS])
    assert [one.answers for one in found] == [(1, 3), (2, 4), (3,), (4,)]


def test_roles_and_keys_as_others_name_them(written):
    row = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"from": "user", "content": "Who?"},
            {"role": "model", "value": "Nobody."},
        ]
    }
    [found] = read_prompts(written(row))
    assert said(found.conversation.messages) == [
        ("system", "Be brief."),
        ("user", "Who?"),
        ("assistant", "Nobody."),
    ]


@pytest.mark.parametrize("form", [None, "numpy", "columns"])
def test_datasets_that_were_saved_in_another_form(tmp_path, form):
    if form == "columns":
        rows = [{key: [turn[key] for turn in TURNS] for key in ("role", "content")}]
    else:
        rows = [TURNS]
    dataset = Dataset.from_list([{"messages": row} for row in rows])
    dataset.with_format(form if form == "numpy" else None).save_to_disk(tmp_path / "saved")
    [found] = read_prompts(str(tmp_path / "saved"))
    assert said(found.conversation.messages) == said(TURNS)


def test_columns_of_any_name_and_files_of_any_format(tmp_path, written):
    rows = [{"talk": TURNS, "n": n} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    written(*rows, name="b.json")
    for name in ("a.parquet", "a.json", "a.json.gz", "b.json"):
        source = parse_prompts({"path": str(tmp_path / name), "messages": "talk"})
        found = list(read_prompts(source))
        assert [said(one.conversation.messages) for one in found] == [said(TURNS)] * 3
        assert files_of_prompts(source) == [tmp_path / name]
        other = parse_prompts({"path": str(tmp_path / name), "conversations": "talk"})
        assert content_of_prompts(source) == content_of_prompts(source)
        assert content_of_prompts(source) != content_of_prompts(other)
    table = tmp_path / "rows.csv"
    table.write_text('question,answer\nWho?,Nobody.\n"Why, then?",Rain.\n', encoding="utf-8")
    source = parse_prompts(f"{{path: {table}, prompt: question, response: answer}}")
    assert [one.text for one in read_prompts(source)] == ["Who?", "Why, then?"]
    assert name_of_prompts(source) == "rows" and name_of_prompts("a/chats") == "chats"


def test_parquet_gives_every_message_the_keys_of_all(tmp_path):
    calls = [{"name": "add", "arguments": None}]
    row = {"messages": [ASKED, {**SAID, "tool_calls": calls}, {**LAST, "weight": None}]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    [found] = read_prompts(str(tmp_path / "a.parquet"))
    assert [sorted(message) for message in found.conversation.messages] == [
        ["content", "role"],
        ["content", "role", "tool_calls"],
        ["content", "role"],
    ]
    assert found.conversation.messages[1]["tool_calls"] == [{"name": "add"}]


def test_a_folder_and_its_splits(written, tmp_path):
    written({"messages": TURNS}, name="train_sft.jsonl")
    written({"messages": TURNS[:2]}, name="test_sft.jsonl")
    source = parse_prompts({"path": str(tmp_path), "split": "train_sft"})
    [found] = read_prompts(source)
    assert found.references == ("It rained.",)
    written({"messages": TURNS[:2]}, name="chats.train.jsonl")
    [plain] = read_prompts(str(tmp_path / "chats"))
    assert plain.references == ("Nobody.",)


def test_prompts_without_answers_are_read_where_answers_are_generated(written):
    rows = [
        {"messages": TURNS[:3]},
        {"prompt": "Who?"},
        {"instruction": "Go."},
        {"messages": TURNS},
        {"messages": TURNS, "prompt": "Who?"},
        {"messages": [*TURNS[:3], {**LAST, "content": ""}]},
    ]
    found = list(read_prompts(written(*rows), answered=False))
    talk = "Who?\nNobody.\nWhy?"
    assert [one.text for one in found] == [talk, "Who?", "Go.", talk, talk, talk]
    with pytest.raises(DataError, match="line 2 of"):
        list(read_prompts(written(rows[3], rows[1])))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a", "answer": "b"}, "has the fields question, answer; known are `messages`"),
        (
            {"messages": None, "n": 1},
            r"has the fields messages, n \(messages without a value\); known",
        ),
        (
            {"prompt": "a", "response": None},
            r"prompt, response \(response without a value\); known",
        ),
        ({"prompt": "a", "chosen": "b"}, r"known are .* `prompt` with `completion` or `response`"),
        ({"messages": TURNS, "conversations": SHARED}, "in several ways: it has messages, conv"),
        ({"messages": TURNS, "prompt": "a", "response": "b"}, "in several ways"),
        ({"prompt": "a", "completion": "b", "response": "c"}, r"as {path: FILE, completion: comp"),
        ({"messages": []}, r"`messages` is \[\]; give a list of one message"),
        ({"messages": "hello"}, "`messages` is 'hello'; give a list"),
        ({"messages": ["Who?", "Nobody."]}, "message 1 of `messages` in .* is 'Who\\?'; give an"),
        ({"messages": [{"content": "a"}]}, "has the keys content; needed are `role`"),
        ({"messages": [{"role": "critic", "content": "a"}]}, "'critic'; known are system, user"),
        ({"conversations": [{"from": 3, "value": "a"}]}, "has the from 3"),
        ({"messages": [ASKED, {"role": "assistant"}]}, "its content is None; give a text"),
        (
            {"messages": [{**ASKED, "content": [{"type": "image", "url": "x"}]}, SAID]},
            r"part 1 of its content is .*'image'.*; give a .*images and sounds cannot be read",
        ),
        (
            {
                "messages": [
                    {
                        **ASKED,
                        "content": [{"type": "text", "text": "a"}, {"type": "image", "text": ""}],
                    },
                    SAID,
                ]
            },
            "message 1 .*: part 2 of its content is",
        ),
        ({"messages": [ASKED]}, r"no message is the assistant's \(roles are user\)"),
        (
            {"messages": [SAID, ASKED]},
            r"nothing was said to the assistant \(roles are assistant, us",
        ),
        (
            {"prompt": [{"role": "system", "content": "a"}], "completion": [SAID]},
            "nothing was said",
        ),
        ({"messages": [ASKED, {**SAID, "content": " "}]}, "an answer is ' '"),
        ({"messages": [ASKED, {**SAID, "content": ""}, MORE, LAST]}, "an answer is ''"),
        ({"messages": [ASKED, {**SAID, "weight": 0.5}, MORE, LAST]}, "message 2 .* the weight 0.5"),
        ({"messages": [ASKED, {**SAID, "train": "no"}]}, "message 2 .* has the train 'no'; give 1"),
        ({"messages": [ASKED, {**SAID, "loss": False}]}, "no answer is to be learned"),
        ({"prompt": "a", "completion": "b", "label": False}, "has a `label` beside `completion`"),
        ({"prompt": "a", "input": "c", "response": "b"}, "has `input`, which is not read of pro"),
        ({"messages": TURNS, "document": "c"}, "has `document`, which is not read of conversat"),
        (
            {"instruction": "a", "output": "b", "history": ["c"]},
            r"`history` is \['c'\]; give pairs",
        ),
        (
            {"messages": [ASKED, {**SAID, "tool_calls": "add"}]},
            "its calls of tools are 'add'; give",
        ),
        ({"messages": str(TURNS)}, r"is .*, which is not JSON; give a list of one message"),
        (
            {"messages": json.dumps([{**ASKED, "content": "\ud83d"}, SAID])},
            "holds half a character",
        ),
        (
            {"messages": [{"role": "system", "content": "a"}, ASKED, SAID], "system": "b"},
            "has a `system` beside a system message",
        ),
        ({"messages": TURNS, "system": 3}, "`system` is 3; give a text"),
        ({"messages": TURNS, "tools": "add"}, "`tools` is 'add'; give a list of objects"),
        ({"prompt": TURNS[:1], "completion": 5}, "`completion` is 5; give a text"),
        ({"prompt": TURNS[:1], "references": []}, r"`references` is \[\]"),
        ({"prompt": TURNS[:1], "response": "a", "document": "d"}, "`document` beside messages"),
        ({"instruction": 3, "output": "a"}, "`instruction` is 3; give a text"),
        ({"instruction": "a", "input": 3, "output": "a"}, "`input` is 3; give a text"),
        ({"prompt": 3, "response": "a"}, "`prompt` is 3; give a text"),
        ({"prompt": "a", "document": 3, "response": "a"}, "`document` is 3; give a text"),
        ({"prompt": "a", "response": " "}, "`response` is ' '; give an answer, or leave"),
        ({"instruction": "a", "output": ""}, "`output` is ''; give an answer, or leave"),
    ],
)
def test_rows_that_are_refused(written, row, message):
    with pytest.raises(DataError, match=message):
        list(read_prompts(written(row)))


def test_a_content_may_be_a_list_of_texts_which_from_a_tool_is_its_result(written):
    messages = [
        {"role": "user", "content": ["Who", {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": ["I ", "look."]},
        {"role": "tool", "content": ["Ann", "Ben"]},
        {"role": "assistant", "content": ["Ann."]},
    ]
    [row] = read_prompts(written({"messages": messages}))
    found = [message["content"] for message in row.conversation.messages]
    assert found == ["Who?", "I look.", '["Ann", "Ben"]', "Ann."]


def test_earlier_turns_of_an_instruction_are_turns(written):
    """As LLaMA-Factory has them; without any, the row is a plain prompt."""
    row = {"instruction": "Why?", "input": "", "output": "It rained."}
    earlier, alone = read_prompts(
        written({**row, "history": [["Who?", "Nobody."]]}, {**row, "history": []})
    )
    assert said(earlier.conversation.messages) == said(TURNS)
    assert earlier.conversation.answers == (1, 3)
    assert alone.conversation is None and alone.text == "Why?"


def test_a_label_beside_an_answer_is_read_where_its_column_is_named(written):
    file = written({"prompt": "a", "completion": "b", "label": True})
    named = {"path": file, "prompt": "prompt", "completion": "completion"}
    [row] = read_prompts(parse_prompts(named))
    assert (row.text, row.references) == ("a", ("b",))


def test_conversations_are_known_by_the_first_row(written):
    assert are_conversations(written({"messages": TURNS}))
    assert not are_conversations(written({"prompt": "Who?", "completion": "Nobody."}))


def test_columns_that_are_not_read_are_known(written, tmp_path):
    row = {"messages": TURNS, "id": 3, "prompt": "Who?", "context": "a long text"}
    written(row, name="mine.train.jsonl")
    assert unread_columns(str(tmp_path / "mine")) == ["id", "context"]
    file = written({"question": "Who?", "answer": "Nobody.", "context": "a long text"})
    named = {"path": file, "prompt": "question", "response": "answer"}
    assert unread_columns(parse_prompts(named)) == ["context"]


def test_a_named_column_decides_where_several_are_there(written):
    row = {"messages": TURNS, "prompt": "a", "completion": "b", "response": "c"}
    file = written(row)
    [chat] = read_prompts(parse_prompts({"path": file, "messages": "messages"}))
    [text] = read_prompts(parse_prompts({"path": file, "response": "response"}))
    assert chat.conversation and (text.text, text.references) == ("a", ("c",))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ({"path": "FILE", "messages": "talk"}, "column 'talk' for `messages` is not there"),
        ({"path": "FILE", "split": {"train": "other"}}, "is a file, whose rows are learned from"),
        ({"path": "nowhere/rows.jsonl"}, "does not exist"),
        ("nowhere", "neither nowhere.train.jsonl nor"),
    ],
)
def test_prompts_that_are_not_there(written, location, message):
    file = written({"messages": TURNS})
    if isinstance(location, dict):
        location = {**location, "path": location["path"].replace("FILE", file)}
    with pytest.raises(DataError, match=message):
        list(read_prompts(parse_prompts(location)))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ({"path": "a.jsonl", "mesages": "b"}, "unknown key 'mesages'.*messages"),
        ({"messages": "b"}, "path is missing"),
        ({"path": "a", "prompt": "x", "response": "x"}, "prompt and response name the same column"),
        ({"path": "a", "split": {"dev": 0.1}}, "split names dev; prompts are held out by"),
        (7, "says no place of rows"),
        ("{path: [", "is not YAML"),
    ],
)
def test_descriptions_that_are_refused(location, message):
    with pytest.raises(DataError, match=message):
        parse_prompts(location)
    with pytest.raises(ValidationError, match=message):
        DataPart(prompts=[location])


def test_a_recipe_takes_descriptions_and_paths():
    data = DataPart(prompts=["a/chats", {"path": "b.parquet", "messages": "talk"}])
    assert data.prompts == ["a/chats", PromptSource("b.parquet", messages="talk")]
    assert DataPart.model_validate_json(data.model_dump_json()) == data
    assert len({*data.prompts, PromptSource("b.parquet")}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is an empty array"),
        ("[1]", "object 1 of .* is a int, not an object"),
        ("[{", "is not JSON"),
        ('[{"a": 1, "a": 2}]', "'a' is there twice"),
        ("", "is empty"),
    ],
)
def test_broken_arrays(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(read_prompts(str(tmp_path / "a.json")))
