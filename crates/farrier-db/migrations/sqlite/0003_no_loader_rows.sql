-- Loaders are files with an entry beside each; nothing ever read these rows.
DROP TABLE loader;
