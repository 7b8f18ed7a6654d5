"""The command line, `python -m merge`: one file per subcommand.

A subcommand is a module with `NAME`, `HELP`, `EXAMPLES`, `add_arguments(parser)` and `run(options)`. `program.py` lists
them, parses the arguments and turns errors into one line. Shared by several subcommands: `arguments.py` (options),
`input_files.py` (`FILE:STRENGTH:BLOCK_WEIGHTS`) and `output.py` (device, progress, writing); merge's `--pair` is in
`pairs.py`.
"""
