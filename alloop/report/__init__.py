"""One offline HTML file about one run or a study."""
