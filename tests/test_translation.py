"""Translation: the dates, the model that translates them, and what it reached."""

import datetime
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from babel.dates import format_date

from attn_course.applications import all_studies, load, study, translation
from attn_course.applications.training import Recipe, train
from attn_course.applications.translation import (
    MEMORIES,
    START,
    Pair,
    TranslationModel,
    alphabet,
    encoded,
    evaluate,
    loss,
    marks,
    pairs,
    parts,
    shifted,
    targets,
    translated_exactly,
)
from attn_course.data import dates, fields, packages, written
from attn_course.data.dates import CHECKSUMS, LANGUAGES, STYLES, UNSEEN, _check
from attn_course.notebook import results

DAY = datetime.date(2021, 9, 5)
GERMAN = "Sonntag, 5. September 2021"


@pytest.fixture
def fresh():
    """Forget which languages were checked, before and after."""
    _check.cache_clear()
    yield
    _check.cache_clear()


def test_the_parts_share_no_date_and_hold_every_day():
    train, validation, test = dates()
    assert (len(train), len(validation), len(test)) == (72249, 400, 400)
    days = {*train, *validation, *test}
    assert len(days) == 73049 == 200 * 365 + 49  # leap years: 2000 is one, 1900 is none
    assert (min(days), max(days)) == (datetime.date(1900, 1, 1), datetime.date(2099, 12, 31))
    assert dates() == (train, validation, test)


@pytest.mark.parametrize(
    ("language", "style", "text"),
    [
        ("de", "full", GERMAN),
        ("en", "medium", "Sep 5, 2021"),
        ("pl", "long", "5 września 2021"),
        ("ja", "full", "2021年9月5日日曜日"),
        ("uk", "long", "5 вересня 2021\u202fр."),
    ],
)
def test_dates_by_hand(language, style, text):
    assert written(DAY, language, style) == text


@pytest.mark.parametrize("language", [*LANGUAGES, *UNSEEN])
def test_texts_are_those_of_the_library(language):
    for date in dates()[2][:20]:
        for style in STYLES:
            said = fields(date, language, style)
            assert "".join(text for _, text in said) == format_date(date, style, locale=language)
            names = [name for name, _ in said if name]
            assert {"year", "month", "day"} <= set(names)
            assert dict(said)["year"] == str(date.year)
            assert int(dict(said)["day"]) == date.day


def test_no_text_means_two_dates():
    meanings = {}
    for number in range(366):
        date = datetime.date(2024, 1, 1) + datetime.timedelta(number)
        for pair in pairs([date], [*LANGUAGES, *UNSEEN]):
            assert meanings.setdefault(pair.text, pair.iso) == pair.iso, pair
    english, greek = datetime.date(2021, 9, 5), datetime.date(2021, 5, 9)
    assert format_date(english, "short", locale="en") == format_date(greek, "short", locale="el")


def test_an_unknown_language_or_style_and_what_is_no_date_are_refused(unchecked):
    with pytest.raises(KeyError, match="'xx', expected one of ar, de"):
        written(DAY, "xx", "long")
    with pytest.raises(KeyError, match=r"style is 'wide', expected one of short, medium"):
        written(DAY, "de", "wide")
    with pytest.raises(TypeError, match=r"date is '2021-09-05', expected a datetime.date"):
        written("2021-09-05", "de", "long")
    assert set(CHECKSUMS) == {*LANGUAGES, *UNSEEN}


def test_nothing_heavy_is_imported():
    code = "import sys, attn_course.data; print('babel' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_missing_package_says_how_to_install_it(monkeypatch, fresh):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps babel==\d"):
        written(DAY, "fr", "long")


DAMAGES = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[:100],
    "half": lambda data: data[: len(data) // 2],
    "another name": lambda data: data.replace(b"septembre", b"septemvre"),
    "a number": lambda data: pickle.dumps(7),
    "a list": lambda data: pickle.dumps([]),
    "months in a list": lambda data: pickle.dumps(pickle.loads(data) | {"months": []}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_are_named(monkeypatch, fresh, tmp_path, damage):
    from babel import localedata

    whole = packages.package_file("babel", "locale-data", "fr.dat").read_bytes()
    damaged = DAMAGES[damage](whole)
    assert damaged != whole
    for name in ("root", "fr"):
        source = packages.package_file("babel", "locale-data", f"{name}.dat")
        (tmp_path / f"{name}.dat").write_bytes(source.read_bytes())
    (tmp_path / "fr.dat").write_bytes(damaged)
    monkeypatch.setattr(localedata, "_dirname", str(tmp_path))
    monkeypatch.setattr(localedata, "_cache", {})
    with pytest.raises(ValueError, match=r"fr.dat is damaged, .* expected the dates of babel==\d"):
        written(DAY, "fr", "long")


def test_characters_become_numbers():
    assert len(alphabet()) == len(set(alphabet())) == 244
    x = encoded(["5. Mai 2021", "ქ5"])
    assert x.shape == (2, 11)
    assert x[1].tolist() == [translation.UNKNOWN, x[0, 0].item(), *[translation.PADDING] * 9]
    assert (x[0] > translation.UNKNOWN).all()
    y = targets(["2021-09-05"])
    assert shifted(y).tolist() == [[START, 2, 0, 2, 1, 10, 0, 9, 10, 0]]


def test_marks_are_the_characters_of_a_field():
    said = pairs([DAY], ["de", "ja"], ["full"])
    found = marks(said, "month")
    months = ["".join(itertools.compress(p.text, m)) for p, m in zip(said, found, strict=True)]
    assert months == ["September", "9"]
    assert found.shape == (2, len(GERMAN))


@pytest.fixture(params=MEMORIES)
def model(request, device):
    torch.manual_seed(0)
    return TranslationModel(request.param).to(device).eval()


@torch.no_grad()
def scores(model, texts, isos=("2021-09-05",)):
    device = next(model.parameters()).device
    y = targets(isos * len(texts), device)
    return model(encoded(texts, device), shifted(y)).cpu()


def test_shapes_and_size(model):
    assert scores(model, [GERMAN, "5 mai 2021"]).shape == (2, 10, 11)
    assert sum(x.numel() for x in model.parameters()) == 184907


def test_padding_does_not_matter(model):
    alone, together = scores(model, ["5 mai 2021"]), scores(model, ["5 mai 2021", GERMAN])
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_what_is_not_written_yet_does_not_matter(model):
    one, other = scores(model, [GERMAN], ("2021-09-05",)), scores(model, [GERMAN], ("2021-10-05",))
    torch.testing.assert_close(one[:, :6], other[:, :6])  # the sixth is scored before it is known
    assert (one[:, 6] - other[:, 6]).abs().max() > 1e-3


def test_one_vector_holds_less_than_all_rows(device):
    torch.manual_seed(0)
    x = encoded([GERMAN], device)
    for memory, rows in (("all", len(GERMAN)), ("mean", 1)):
        net = TranslationModel(memory).to(device).eval()
        kept, mask = net.encode(x)
        assert kept.shape == (1, rows, 64)
        assert mask.shape == (1, 1, 1, rows)
    with pytest.raises(ValueError, match="memory is 'last', expected one of all, mean"):
        TranslationModel("last")


def test_the_mean_is_of_characters_and_not_of_padding(device):
    torch.manual_seed(0)
    net = TranslationModel("mean").to(device).eval()
    whole = TranslationModel("all").to(device).eval()
    whole.load_state_dict(net.state_dict())
    x = encoded(["5 mai 2021", GERMAN], device)
    rows, _ = whole.encode(x)
    torch.testing.assert_close(net.encode(x)[0][0, 0], rows[0, :10].mean(dim=0))


def test_alignments_are_the_weights_that_the_decoder_uses(device):
    torch.manual_seed(0)
    net = TranslationModel("all").to(device).eval()
    x, y = encoded(["5 mai 2021", GERMAN], device), targets(["2021-05-05", "2021-09-05"], device)
    weights = net.alignments(x, shifted(y))
    assert weights.shape == (2, 2, 4, 10, len(GERMAN))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 4, 10, device=device))
    assert weights[:, 0, :, :, 10:].max() == 0  # no weight on padding
    seen = []
    last = net.decoder.layers[-1].memory_attention
    handle = last.output.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    with torch.no_grad():
        memory, _ = net.encode(x)
        net(x, shifted(y))
    handle.remove()
    values = last.value(memory).unflatten(-1, (4, 16)).transpose(1, 2)
    mixed = (weights[-1] @ values).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(seen[0], mixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory", MEMORIES)
def test_training_lowers_the_loss_and_a_seed_repeats_it(tmp_path, memory, device):
    def run():
        torch.manual_seed(0)
        net = TranslationModel(memory).to(device)
        recipe = Recipe(steps=20, learning_rate=2e-3, warmup=5, log_every=5)
        log = train(
            net,
            lambda model, rng: loss(model, rng, size=8),
            recipe,
            seed=0,
            unfinished=tmp_path / "run.unfinished",
        )
        return net, log

    net, log = run()
    assert log[-1][1] < 0.8 * log[0][1]
    if device == "cpu":
        again, log_again = run()
        assert log == log_again
        assert all(map(torch.equal, net.parameters(), again.parameters()))


def test_training_sees_training_dates_alone(monkeypatch):
    seen = set()

    def spied(days, *others):
        seen.update(days)
        return pairs(days, *others)

    net = TranslationModel("all")
    alphabet()  # what the alphabet reads is not counted
    monkeypatch.setattr(translation, "pairs", spied)
    for seed in range(4):
        loss(net, np.random.default_rng(seed))
    train, validation, test = parts()
    assert 200 < len(seen) <= 256
    assert seen <= set(train)
    assert seen.isdisjoint({*validation, *test})


@pytest.fixture(scope="module")
def trained():
    """The stored model that attends to all rows, and the one that has their mean."""
    return {memory: load(study(f"dates/{memory}")) for memory in MEMORIES}


def test_exact_is_what_greedy_decoding_writes(trained):
    for model in trained.values():
        chosen = pairs(parts()[2][:12], [*LANGUAGES, *UNSEEN])
        exact = translated_exactly(model, chosen, size=100)
        out = model.translate([pair.text for pair in chosen])
        assert exact.tolist() == [o == p.iso for o, p in zip(out, chosen, strict=True)]
        assert exact.any()
        assert not exact.all()


def test_the_stored_model_reaches_what_was_measured(trained):
    assert trained["all"].translate([GERMAN]) == ["2021-09-05"]
    test = parts()[2]
    metrics = evaluate(trained["all"], test)
    runs = [run for run in results("applications")["runs"] if run["study"] == "dates/all"]
    assert metrics["exact"] >= 0.98
    for name, value in metrics.items():
        assert value == pytest.approx(runs[0]["metrics"][name], abs=0.005), name
    # The groups are parts of the whole, and the languages are equally many.
    by_language = [metrics[f"language {name}"] for name in LANGUAGES]
    assert np.mean(by_language) == pytest.approx(metrics["exact"])
    assert np.mean([metrics[f"style {name}"] for name in STYLES]) == pytest.approx(metrics["exact"])


def test_every_seed_holds_the_bounds():
    for memory, low, high in (("all", 0.98, 1.0), ("mean", 0.1, 0.8)):
        runs = [r for r in results("applications")["runs"] if r["study"] == f"dates/{memory}"]
        assert [run["seed"] for run in runs] == [0, 1, 2]
        for run in runs:
            assert low <= run["metrics"]["exact"] <= high
            assert run["parameters"] == 184907
    assert {"dates/all", "dates/mean"} <= set(all_studies())


def test_the_decoder_looks_at_the_month_where_it_writes_the_month(trained):
    chosen = pairs(parts()[2][:10])
    x, y = encoded([p.text for p in chosen]), targets([p.iso for p in chosen])
    weights = trained["all"].alignments(x, shifted(y)).mean(dim=(0, 2))
    on_month = (weights * marks(chosen, "month")[:, None]).sum(dim=-1).mean(dim=0)
    assert on_month[5:7].min() > 0.5
    assert on_month[:4].max() < 0.3


def test_a_text_of_unknown_characters_is_still_answered(trained):
    out = trained["all"].translate(["ჰჰჰ", "1"])
    assert [len(text) for text in out] == [10, 10]
    assert not translated_exactly(trained["all"], [Pair("ჰჰჰ", "2021-09-05", "ka", "long")]).any()
