"""The languages that LlamaParse's OCR reads, by the codes of its API (`ParsingLanguages`)."""

LANGUAGES = frozenset(
    """
    abq ady af ang ar as ava az be bg bgc bh bho bn bs ch_sim ch_tra che cs cy da dar de en es et
    fa fr ga gom hi hr hu id inh is it ja kbd kn ko ku la lbe lez lt lv mah mai mi mn mni mr ms mt
    ne new nl no oc pi pl pt ro rs_cyrillic rs_latin ru sa sck sk sl sq sv sw ta tab te th tjk tl
    tr ug uk ur uz vi
    """.split()  # noqa: SIM905 - a literal list would be ninety lines
)
