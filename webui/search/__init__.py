"""Picture search: which pictures of the owner's folders are nearest to a text or a picture.

`lance.LanceStore` keeps the vectors, `index` brings it up to date with the folders, `query` reads what is asked for,
`find` answers. All of it works in a notebook:

    store = LanceStore(Path("index"), ModelIdentity("emoji", "1"))
    index_folder(store, encoder, Path("pictures"))
    find(store, encoder, read_query("a cat + 0.5 at night - 0.3 people"))
"""
