"""One module per stage; stages depend neither on tasks nor on other stages."""
