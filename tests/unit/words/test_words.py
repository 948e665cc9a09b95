"""Words of texts in many scripts: what is one word, what two spellings are equal, what is never cut."""

import subprocess
import sys
import unicodedata

import pytest

from heedloop.words import (
    find_parts,
    fold,
    graphemes,
    num_sentences,
    num_words,
    search_form,
    search_words,
    spelled_words,
    terms,
    words,
)


def finds(query: str, text: str) -> bool:
    """What the store's condition says, worked out here."""
    wanted = search_words(query)
    return all(w.form in search_form(text) and all(a in fold(text) for a in w.accented) for w in wanted)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("refund lamp", "A LAMP, and its (Refund)"),
        ("rückerstattung", unicodedata.normalize("NFD", "Die Rückerstattung fehlt")),
        ("STRASSE", "Hauptstraße 5"),
        ("palautus", "Rahanpalautusta ei ole"),  # inside a Finnish compound
        ("zwrot pieniędzy", "Pieniędzy nie ma, a zwrot był"),
        ("lodz", "sklep w Łodzi"),
        ("επιστροφή", "ΘΕΛΩ ΕΠΙΣΤΡΟΦΗ"),
        ("χρήματος", "ΧΡΗΜΑΤΟΣ"),  # final sigma
        ("iade", "İADE İSTİYORUM"),
        ("KIRIK", "kırık geldi"),
        ("возврат елка", "Ёлка: возврат"),
        ("ещё", "ЕЩЕ РАЗ"),
        ("החזר", "שאלה על הַחְזָר כספי"),
        ("הַחְזָר", "אני רוצה להחזר"),
        ("استرداد", "أريد الاِسْتِرْدَاد"),
        ("العربية", "\ufe8d\ufedf\ufecc\ufeae\ufe91\ufef4\ufe94"),  # presentation forms
        ("کتاب", "کـــتاب"),
        ("退款", "我想退掉台灯,请退款给我"),
        ("台灯 退款", "请退款:台灯"),
        ("猫", "黒い猫がいる"),
        ("iphone 返金", "iPhoneの返金"),
        ("ＡＢＣ", "abc"),
        ("abc", "ＡＢＣ商店"),
        ("ガイド", "ｶﾞｲﾄﾞ"),
        ("환불", unicodedata.normalize("NFD", "환불금이 아직")),
        ("คืนเงิน", "ต้องการคืนเงินค่าโคมไฟ"),
        ("សងប្រាក់", "សូមសង\u200bប្រាក់វិញ"),
        ("ເງິນຄືນ", "ຂໍເງິນຄືນ"),
        ("ပြန်အမ်း", "ငွေပြန်အမ်းပါ"),
        ("རྒྱབ་སྐྱོར", "ང་ལ་རྒྱབ་སྐྱོར་དགོས"),
        ("பணம்", "பணம் வேண்டும்"),
        ("ফেরত", "টাকা ফেরত চাই"),
        ("रिफंड", "मुझे रिफंड चाहिए"),
        ("👍", "sehr gut 👍🏽!"),
        ("hoàn tiền", unicodedata.normalize("NFD", "Tôi muốn hoàn tiền")),
        ("hoan", "Tôi muốn hoàn tiền"),
        ("don't", "I don’t know"),
        ("3.14", "pi is 3.14."),
        ("ai", "what AI does"),
    ],
)
def test_a_query_finds_every_spelling_of_its_words(query: str, text: str) -> None:
    assert finds(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("tiền", "tien"),  # an accent that is written counts
        ("đèn", "hàng đến"),
        ("мой", "мои"),
        ("ai", "the main gain"),  # two letters begin a word
        ("退款", "退还款项"),
        ("환불", "환경 불만"),
        ("refund desk", "refund of the lamp"),
    ],
)
def test_a_query_does_not_find_other_words(query: str, text: str) -> None:
    assert not finds(query, text)


def test_punctuation_alone_is_no_word() -> None:
    assert search_words(" !? … 、。 ") == []
    assert all(len(w.form) >= 3 for w in search_words("a bc 退 환 👍 hello"))
    assert not any(c in w.form for w in search_words("100%_off\\ a_b %") for c in "%_\\")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't pay 3.14 EUR, O’Neil!", ["don't", "pay", "3.14", "eur", "o’neil"]),
        ("请退款给我 iPhone手机", ["请", "退款", "给", "我", "iphone", "手机"]),
        ("請問退款多久", ["請問", "退款", "多久"]),
        ("返金ランプ", ["返金", "ランプ"]),
        ("คืนเงินค่าโต๊ะ", ["คืน", "เงิน", "ค่า", "โต๊ะ"]),
        ("ຂໍເງິນຄືນ ປະຕູ", ["ຂໍ", "ເງິນ", "ຄືນ", "ປະຕູ"]),
        ("សូមសងប្រាក់វិញ", ["សូម", "សង", "ប្រាក់", "វិញ"]),
        ("ငွေပြန်အမ်းပါ", ["ငွေ", "ပြန်", "အမ်း", "ပါ"]),
        ("हिन्दी में, रिफंड।", ["हिन्दी", "में", "रिफंड"]),
        ("பணம் திரும்ப", ["பணம்", "திரும்ப"]),
        ("שָׁלוֹם", ["שלום"]),
        ("택배가 어디에", ["택배가", "어디에"]),
        ("བོད་ཡིག", ["བོད", "ཡིག"]),
        ("👨‍👩‍👧 ok 👍🏽", ["👨👩👧", "ok", "👍🏽"]),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    pytest.importorskip("icu4py")
    assert words(text) == [fold(w) for w in expected]
    assert num_words(text) == len(expected)


SCRIPTS = [
    "नमस्ते दुनिया",
    "ที่นี่ไม่มีน้ำ",
    "ក្រុមហ៊ុន",
    "မြန်မာစာ",
    "ພາສາລາວ",
    "தமிழ் மொழி",
    "বাংলা ভাষা",
    "nai\u0308ve",
    "がぎぐ",
    "각하",
]


@pytest.mark.parametrize("text", SCRIPTS)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_no_piece_begins_with_a_mark(text: str, form: str) -> None:
    text = unicodedata.normalize(form, text)
    pieces = [*graphemes(text), *words(text), *terms(text), *(w for _, w in spelled_words(text))]
    assert pieces
    assert not [p for p in pieces if unicodedata.category(p[0]).startswith("M")]
    assert "".join(graphemes(text)) == unicodedata.normalize("NFC", text)
    assert all(w in unicodedata.normalize("NFC", text) for _, w in spelled_words(text))


def test_without_icu_a_script_without_spaces_is_cut_into_pairs_and_the_sdk_needs_no_icu() -> None:
    code = (
        "import sys; sys.modules['icu4py.breakers'] = None\n"
        "from heedloop.words import words; assert words('退款给我 ok') == ['退款', '款给', '给我', 'ok'], words('退款给我 ok')\n"
        "assert words('猫') == ['猫']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_terms_are_words_and_characters_where_words_are_uncertain() -> None:
    assert terms("Thank you") == ["thank", "you"]
    assert terms("谢谢您", most=2) == ["谢", "谢", "您", "谢谢", "谢您"]
    assert terms("환불은", most=2) == ["환불은", "환불", "불은"]
    assert "नमस्ते" in terms("नमस्ते जी")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", 3),
        ("你好。再见！好吗？", 3),
        ("यह है। वह है॥", 2),
        ("هل هذا؟ نعم۔", 2),
        ("ไม่มีเครื่องหมาย", 1),
        ("ከተማ። አገር።", 2),
        ("a\nb", 2),
        (" ... ", 0),
    ],
)
def test_sentences_end_by_the_marks_of_their_script(text: str, expected: int) -> None:
    assert num_sentences(text) == expected


def test_half_a_surrogate_pair_is_no_error() -> None:
    assert words("退款\ud83d ok")[-1] == "ok"
    assert search_words("\ud83d ok")[-1].form == " ok"


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("Where is my Refund? A refund!", "refund", ["Refund", "refund"]),
        ("Wo bleibt die Rückerstattung", "ruckerst", ["Rückerst"]),
        ("Ru\u0308ckerstattung", "rück", ["Ru\u0308ck"]),
        ("返金はいつ届きますか", "返金", ["返金"]),
        ("STRASSE and Straße", "straße", ["STRASSE", "Straße"]),
        ("nothing of it", "refund", []),
        ("", "refund", []),
        ("refund", "!?", []),
        ("ab ba", "ab ba", ["ab", "ba"]),
        ("Ru\u0308cken", "ru", ["Ru\u0308"]),
    ],
)
def test_hits_are_marked_as_the_text_writes_them(text: str, query: str, found: list[str]) -> None:
    assert [text[a:b] for a, b in find_parts(text, query)] == found
