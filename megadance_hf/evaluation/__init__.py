"""The paper's tables on any prepared data set, with baselines, physical numbers and tests of whether the music is used.

run.py             the run: opens data and models, lets them dance, measures, puts the report together
tables.py          how the paper evaluates each data set; Tables 1 to 4: what each needs, its rows and columns
dances.py          excerpts of songs, right and wrong music and genres, and the dances that a model generates to them
baselines.py       rows that need no generator: ground truth, nearest music, frozen pose, tokenizer
scores.py          all numbers of one dance; FID, diversity, genre scores and means of many
reconstruction.py  errors of the tokenizer (Table 4b)
cross_entropy.py   does the model use its music
synchrony.py       does a dance keep time with beat and bar
reports.py         report.json, tables.md, plots
"""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".run": ("Evaluation", "evaluate"),
        ".tables": ("EvaluationError", "PROTOCOLS", "Protocol"),
        ".reports": ("write_report",),
    },
)
