"""One file for each table, figure or study, which its notebook calls: a model in, the data of a result file out."""
