"""Quality control of review: pure functions from judgements to agreement, annotators' records, consensus, confusion.

labels.py      what an answer to a question says, as comparable labels     agreement.py   per question and slice
consensus.py   one label out of several annotators'                        annotators.py  how each annotator works
bias.py        what judgements should not go along with                    confusion.py   annotators against judge, model, users
"""
