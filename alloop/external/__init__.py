"""Rounds whose detector another program trains: files to it, its answers back.

RUN/external/round_000/ask      what it is asked: see `asking`
RUN/external/round_000/tell     what it answers: see `telling`
RUN/external/round_000/work     for its own files
RUN/external/round_000/log.txt  what it printed
"""
