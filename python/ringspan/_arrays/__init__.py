"""What `ringspan.array` is made of; import from there.

| file | job |
|---|---|
| `shared` | what every shared array can do: names, waits, the lock |
| `held` | the guards: what is handed out under the lock, and how it is taken back |
| `ndarray` | numpy arrays |
| `parts` | several arrays and values in one payload |
| `labelled` | what arrays with labels have in common |
| `columns` | the data of a Series, of a column, of labels |
| `index` | the labels of pandas |
| `frames` | Series and DataFrame |
| `datasets` | xarray's DataArray and Dataset |
"""
